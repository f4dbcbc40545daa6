package cli

import (
	"context"
	"net/url"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// connectedRegistryListColumns are the columns of a list. The table of one registry has more.
var connectedRegistryListColumns = []column[api.ConnectedRegistry]{
	{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
	{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, rank: 6},
	{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }},
	{title: "PARENT", text: func(r api.ConnectedRegistry) string { return lastSegment(value(r.Parent.ID)) }, rank: 1},
	{title: "LOGIN SERVER", text: func(r api.ConnectedRegistry) string { return value(r.LoginServer).Host }, rank: 5},
	{title: "SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		text := verdictText(r.Sync)
		if r.LastActivityTime == nil { // no other column has the reason
			text += ": " + value(r.Sync.Reason)
		}
		return text
	}},
	{title: "LAST SYNC (UTC)", text: func(r api.ConnectedRegistry) string {
		return timeText(r.Parent.SyncProperties.LastSyncTime)
	}, rank: 2},
}

type connectedRegistryList struct {
	target
	parent     string
	noChildren bool
}

func (o *connectedRegistryList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.parent, "parent", "p", "NAME", "only the descendants of this connected registry")
	set.BoolVar(&o.noChildren, "no-children", false,
		"only direct children: of --parent, or of this registry")
}

func (o *connectedRegistryList) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{}
	if o.parent != "" {
		query.Set("parent", o.parent)
	}
	if o.noChildren {
		query.Set("children", "direct")
	}
	all, err := pages[api.ConnectedRegistry](ctx, c, api.Root+"/"+connectedRegistries.kind, query, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, connectedRegistryListColumns)
}
