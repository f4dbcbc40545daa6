package cli

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var auditColumns = []column[api.AuditEntry]{
	{title: "TIME (UTC)", text: func(e api.AuditEntry) string { return timeText(&e.Time) }},
	{title: "ACTOR", text: func(e api.AuditEntry) string { return e.Actor }},
	{title: "SENDER", text: func(e api.AuditEntry) string { return e.Sender }},
	{title: "ACTION", text: func(e api.AuditEntry) string { return e.Action }},
	{title: "OBJECT", text: func(e api.AuditEntry) string { return e.Object }},
	{title: "DETAIL", text: func(e api.AuditEntry) string { return e.Detail }, cut: true},
}

func newAuditCommand(env *Env) *cobra.Command {
	return group("audit", "The audit log of changes and failed logins",
		verb(env, "list", "List the entries of the audit log, newest first", `
			ferry audit list -r home -o table
			ferry audit list -r home --actor admin --since 2030-01-02T00:00:00Z --top 0`,
			&auditList{}),
	)
}

type auditList struct {
	target
	actor        string
	since, until time.Time
	top          int
}

func (o *auditList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.actor, "actor", "", "NAME", "only the actions of this operator or token")
	timeVar(set, &o.since, "since", "only entries from this time on, such as 2030-01-02T03:04:05Z")
	timeVar(set, &o.until, "until", "only entries before this time")
	set.IntVar(&o.top, "top", 100, "show at most this many entries; 0 is all")
}

func (o *auditList) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{"n": {"1000"}}
	if o.top > 0 {
		query.Set("n", strconv.Itoa(min(o.top, 1000)))
	}
	if o.actor != "" {
		query.Set("actor", o.actor)
	}
	for name, at := range map[string]time.Time{"since": o.since, "until": o.until} {
		if !at.IsZero() {
			query.Set(name, at.Format(time.RFC3339))
		}
	}
	all, err := pages[api.AuditEntry](ctx, c, api.Root+"/audit-log", query, "value", o.top)
	if err != nil {
		return err
	}
	return showAll(env, all, auditColumns)
}
