package cli

import (
	"context"
	"net/url"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var eventColumns = []column[api.Event]{
	{title: "TIME (UTC)", text: func(e api.Event) string { return timeText(&e.Time) }},
	{title: "SITE", text: func(e api.Event) string { return value(e.ConnectedRegistry) }},
	{title: "TYPE", text: func(e api.Event) string { return e.Type }},
	{title: "REPOSITORY", text: func(e api.Event) string { return e.Repository }},
	{title: "TAG", text: func(e api.Event) string { return value(e.Tag) }},
	{title: "DIGEST", text: func(e api.Event) string { return value(e.Digest) }, cut: true},
	{title: "REASON", text: func(e api.Event) string { return value(e.Reason) }},
	{title: "DETAIL", text: func(e api.Event) string { return value(e.Detail) }, cut: true},
}

func newEventCommand(env *Env) *cobra.Command {
	return group("event", "Events: what happened to images at the root and its sites",
		verb(env, "list", "List the events that are kept, newest first", `
			ferry event list -r home -o table
			ferry event list -r home --site ship1 --type failed
			ferry event list -r home --repository apps/nav --top 0`,
			&eventList{}),
	)
}

type eventList struct {
	target
	registry, repository, kind string

	top int
}

func (o *eventList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.registry, "site", "", "NAME", "only events of this connected registry")
	textVar(set, &o.repository, "repository", "", "NAME", "only events of this repository")
	textVar(set, &o.kind, "type", "", "TYPE",
		"only events of this type: push, delete, complete, failed, first_pull or dropped")
	set.IntVar(&o.top, "top", 100, "show at most this many events; 0 is all")
}

func (o *eventList) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{"n": {pageSizeOf(o.top)}}
	for name, text := range map[string]string{
		"connectedRegistry": o.registry, "repository": o.repository, "type": o.kind,
	} {
		if text != "" {
			query.Set(name, text)
		}
	}
	all, err := pages[api.Event](ctx, c, api.Root+"/events", query, "value", o.top)
	if err != nil {
		return err
	}
	return showAll(env, all, eventColumns)
}
