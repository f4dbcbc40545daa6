package cli

import (
	"context"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var auditColumns = []column[api.AuditEntry]{
	{title: "TIME (UTC)", text: func(e api.AuditEntry) string { return timeText(&e.Time) }},
	{title: "ACTOR", text: func(e api.AuditEntry) string { return e.Actor }},
	{title: "SENDER", text: func(e api.AuditEntry) string { return e.Sender }, rank: 1},
	{title: "ACTION", text: func(e api.AuditEntry) string { return e.Action }},
	{title: "OBJECT", text: func(e api.AuditEntry) string { return e.Object }},
	{title: "SITE", text: func(e api.AuditEntry) string { return value(e.ConnectedRegistry) }},
	{title: "DETAIL", text: func(e api.AuditEntry) string { return e.Detail }, cut: true},
}

func newAuditCommand(env *Env) *cobra.Command {
	return group("audit", "The audit log of changes and failed logins",
		verb(env, "list", "List the entries of the audit log, newest first", `
			ferry audit list -r home -o table
			ferry audit list -r home --actor admin --since 2030-01-02T00:00:00Z --top 0
			ferry audit list -r home --since 24h -o table
			ferry audit list -r home --resource tokens/line1
			ferry audit list -r home --site ship1 --action failed-login`,
			&auditList{}),
	)
}

type auditList struct {
	target
	actor        string
	action       string
	resource     string
	registry     string
	since, until moment
	top          int
}

func (o *auditList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.actor, "actor", "", "NAME", "only the actions of this operator or token")
	textVar(set, &o.resource, "resource", "", "OBJECT",
		"only actions on this object, such as tokens/line1, or on those below it, such as tokens or repositories/app")
	textVar(set, &o.action, "action", "", "ACTION", "only this action, such as delete or failed-login")
	textVar(set, &o.registry, "site", "", "NAME", "only entries of this connected registry; . is the registry itself")
	momentVar(set, &o.since, "since",
		"only entries from this time on, such as 2030-01-02T03:04:05Z, or of the last 90m, 24h or 7d")
	momentVar(set, &o.until, "until", "only entries before this time, or older than this period")
	set.IntVar(&o.top, "top", 100, "show at most this many entries; 0 is all")
}

func (o *auditList) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{"n": {pageSizeOf(o.top)}}
	for name, text := range map[string]string{
		"actor": o.actor, "action": o.action, "resource": o.resource, "connectedRegistry": o.registry,
	} {
		if text != "" {
			query.Set(name, text)
		}
	}
	for name, m := range map[string]moment{"since": o.since, "until": o.until} {
		if at := m.time(env.Now()); !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339Nano))
		}
	}
	all, err := pages[api.AuditEntry](ctx, c, api.Root+"/audit-log", query, "value", o.top)
	if err != nil {
		return err
	}
	return showAll(env, all, auditColumns)
}
