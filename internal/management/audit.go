package management

import (
	"context"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// auditQuery is the query of a page of the audit log.
type auditQuery struct {
	Call
	N      int       `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
	Before int64     `query:"before" minimum:"0" doc:"Only entries with a lower id."`
	Since  time.Time `query:"since" doc:"Only entries from this time on."`
	Until  time.Time `query:"until" doc:"Only entries before this time."`
	Actor  string    `query:"actor" maxLength:"256" doc:"Only those of an operator, of OPERATOR/KEY, or of a token."`
	Action string    `query:"action" maxLength:"64" doc:"Only entries of this action, such as failed-login."`

	Resource string `query:"resource" maxLength:"512" doc:"Only entries of this object, or of those below it: tokens."`

	ConnectedRegistry string `query:"connectedRegistry" maxLength:"100" doc:"Only of this one; . is this instance."`
}

func (h *handler) auditLog() {
	register(h, operation{"GET /audit-log", "list-audit-log", "List the audit log, newest first"},
		func(ctx context.Context, in *auditQuery) (*page[api.AuditEntry], error) {
			some := scan[api.AuditEntry]{next: func(after *api.AuditEntry, limit int) ([]api.AuditEntry, error) {
				q := metadb.AuditQuery{
					Before: in.Before, Since: in.Since, Until: in.Until, Actor: in.Actor, Action: in.Action,
					Object: in.Resource, Registry: in.ConnectedRegistry, Limit: limit,
				}
				if after != nil {
					q.Before = after.ID
				}
				return h.Control.AuditLog(ctx, q)
			}}
			if in.by.Limits.Any() {
				some.keep = func(e api.AuditEntry) bool { return h.seesEntry(ctx, in.by, e) }
			}
			return some.page(in.N, in.next)
		})
}

// seesEntry reports whether a caller with limits sees an entry of the audit log: its own actions,
// those on objects within its limits and, without an API key, those of its API keys.
func (h *handler) seesEntry(ctx context.Context, by control.Caller, e api.AuditEntry) bool {
	if e.ConnectedRegistry != nil { // its operators and its objects are others than those here
		exists, seen, err := h.Control.Sees(ctx, by.Limits, "connected-registries/"+*e.ConnectedRegistry)
		return err == nil && exists && seen
	}
	if operator, _, withKey := strings.Cut(e.Actor, "/"); e.Actor == by.Actor() ||
		withKey && by.Key == "" && operator == by.Name {
		return true
	}
	exists, seen, err := h.Control.Sees(ctx, by.Limits, e.Object)
	return err == nil && exists && seen
}

// next returns the address of the page after an entry.
func (q *auditQuery) next(last api.AuditEntry) string {
	v := url.Values{"n": {strconv.Itoa(q.N)}, "before": {strconv.FormatInt(last.ID, 10)}}
	for name, at := range map[string]time.Time{"since": q.Since, "until": q.Until} {
		if !at.IsZero() {
			v.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	for name, value := range map[string]string{
		"actor": q.Actor, "action": q.Action, "resource": q.Resource, "connectedRegistry": q.ConnectedRegistry,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return api.Root + "/audit-log?" + v.Encode()
}
