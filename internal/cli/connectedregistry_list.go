package cli

import (
	"context"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// connectedRegistryListColumns are the first columns of the table of one connected registry.
var connectedRegistryListColumns = []column[api.ConnectedRegistry]{
	{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
	{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, rank: 6},
	{title: "STATE", text: func(r api.ConnectedRegistry) string { return r.Summary.State }},
	{title: "REASON", text: reasonText, rank: 1},
	{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }, rank: 4},
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

// sortOrders are the orders of a list.
var sortOrders = []string{"tree", "worst"}

type connectedRegistryList struct {
	target
	parent     string
	noChildren bool
	filter     string
	sort       string
	top        int
	watch      bool
	flags      *pflag.FlagSet
}

func (o *connectedRegistryList) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.parent, "parent", "p", "NAME", "only the descendants of this connected registry")
	set.BoolVar(&o.noChildren, "no-children", false,
		"only direct children: of --parent, or of this registry")
	textVar(set, &o.filter, "filter", "", "TERMS", "only those that satisfy all terms; see above")
	choiceVar(set, &o.sort, "sort", "", "tree",
		"tree: each is followed by its children; worst: by state and lag, the worst first", sortOrders...)
	set.IntVar(&o.top, "top", 0, "how many at most; 0 is all")
	watchVar(set, &o.watch)
	o.flags = set
}

func (o *connectedRegistryList) run(ctx context.Context, env *Env, c *client) error {
	q := fleetQuery{parent: o.parent, filter: o.filter, worst: o.sort == "worst", top: o.top}
	if o.noChildren {
		q.children = "direct"
	}
	if o.watch {
		if env.query.search != nil || env.output != "table" && o.flags.Changed("output") {
			return usageError{errShowsNoTable}
		}
		return q.watch(ctx, env, c, func(ctx context.Context) (string, error) {
			all, err := q.list(ctx, c)
			return layout(all.value, fleetColumns, columnsOf(env.Stdout)), err
		})
	}
	all, err := q.list(ctx, c)
	if err != nil {
		return err
	}
	return showAll(env, all, fleetColumns)
}
