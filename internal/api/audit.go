package api

import "time"

// An AuditEntry is one entry of the audit log: an action of an operator, of a token or of a
// stranger.
type AuditEntry struct {
	ID     int64     `json:"id" doc:"Entries are numbered in the order in which they were written."`
	Time   time.Time `json:"time"`
	Actor  string    `json:"actor" doc:"The operator or token; empty in a failed login."`
	Sender string    `json:"sender" doc:"The address that the request came from."`
	Action string    `json:"action" doc:"Such as create, delete, lock or failed-login."`
	Object string    `json:"object" doc:"The path of the object below the API's root, such as tokens/line1."`
	Detail string    `json:"detail" doc:"What changed, such as mode: ReadOnly -> ReadWrite, without secrets."`

	ConnectedRegistry *string `json:"connectedRegistry" doc:"The one that wrote the entry. Null: this instance."`
}
