package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

func newSyncCommand(env *Env) *cobra.Command {
	order := func(what, short string) *cobra.Command {
		return verb(env, what, short, "ferry sync "+what+" -r ship1", &syncOrder{what: what})
	}
	return group("sync", "Syncs of a connected registry, at the site itself",
		verb(env, "status", "Show whether a connected registry is in sync and as of when, tag by tag, and how fast it gets there", `
			ferry sync status -r ship1
			ferry sync status -r ship1 --open -o json
			ferry sync status --data-dir /var/lib/ferry`,
			&syncStatus{}),
		order("now", "Sync now, whatever the schedule says"),
		order("pause", "Stop syncing until it is resumed; what came stays"),
		order("resume", "Let syncs run again, from the same byte"),
	)
}

// A syncOrder tells a site's syncs what to do.
type syncOrder struct {
	target
	what string
}

func (o *syncOrder) run(ctx context.Context, env *Env, c *client) error {
	s, err := ask[api.SyncStatus](ctx, c, call{method: http.MethodPost, path: api.Root + "/sync/" + o.what})
	if err != nil {
		return err
	}
	if why := detailOf(s.value, budgetSpent); o.what == "now" && why != "" {
		fmt.Fprintf(env.Stderr, "warning: %s\nhint: give it more at the root: "+
			"ferry connected-registry update -n NAME --byte-budget SIZE/day\n", why)
	}
	return show(env, s, syncColumns)
}

var syncColumns = []column[api.SyncStatus]{
	{title: "SYNC (UTC)", text: func(s api.SyncStatus) string { return verdictOf(s.Verdict) }},
	{title: "STATE", text: func(s api.SyncStatus) string { return s.State }, rank: 1},
	{title: "PAUSED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.Paused) }},
	{title: "SYNCED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsSynced) }},
	{title: "PENDING", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsPending) }},
	{title: "FAILED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsFailed) }},
	{title: "LAST SUCCESS (UTC)", text: func(s api.SyncStatus) string {
		return seconds(value(s.Result).LastSuccessfulSyncEndTime)
	}},
}

type syncStatus struct {
	target
	syncListing
	dataDir string // of an instance on this machine, in the place of the target
}

func (o *syncStatus) define(set *pflag.FlagSet) {
	o.target.define(set)
	o.syncListing.define(set)
	textVar(set, &o.dataDir, "data-dir", "", "DIR",
		"instead of --registry, on the site's own machine and without a login: its data directory")
}

func (o *syncStatus) client(env *Env) (*client, error) {
	switch {
	case o.dataDir != "" && o.registry != "":
		return nil, usagef("exactly one must be provided: --registry, or --data-dir")
	case o.dataDir != "":
		return newLocalClient(o.dataDir, env.Stderr), nil
	}
	c, err := o.target.client(env)
	if err != nil && o.registry == "" && env.Getenv("FERRY_REGISTRY") == "" {
		err = withHint(err, "name a registry that was saved with ferry login, or an address; "+
			"on the site's own machine --data-dir DIR needs no login")
	}
	return c, err
}

func (o *syncStatus) run(ctx context.Context, env *Env, c *client) error {
	env.output = o.output
	status := call{method: http.MethodGet, path: api.Root + "/sync"}
	s, err := ask[api.SyncStatus](ctx, c, status)
	if err != nil {
		return err
	}
	if env.asText() && isTerminal(env.Stdout) {
		now := func() progress { return progressOf(s.value.State, nil, s.value.ByteProgress) }
		err := watchSync(ctx, env.Stdout, now(), func(ctx context.Context) (m moment, err error) {
			if s, err = ask[api.SyncStatus](ctx, c, status); err != nil {
				return m, err
			}
			query := url.Values{"underway": {"true"}, "n": {fmt.Sprint(mostBars)}}
			next, err := pages[api.SyncItem](ctx, c, api.Root+"/sync/items", query, "value", mostBars)
			return moment{now(), next.value}, err
		})
		if err != nil {
			return err
		}
	}
	return o.show(ctx, env, c, api.Root+"/sync/items", sayStatus(s.value), s.raw, &s.value)
}
