package api

import "time"

// An AuditEntry is one entry of the audit log: something that an operator, a token or a stranger did.
type AuditEntry struct {
	ID     int64     `json:"id" doc:"Entries are numbered in the order in which they were written."`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor" doc:"The operator or token who did it. Empty in a failed login, whose sender is not known."`
	Source string    `json:"source" doc:"The address that the request came from."`
	Action string    `json:"action" doc:"Such as create, delete, lock or failed-login."`
	Object string    `json:"object" doc:"The path of the object below the API's root, such as tokens/line1."`
	Detail string    `json:"detail" doc:"Which locks changed, or how many entries were left out before this one."`
}
