package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/oci"
)

func newSyncCommand(env *Env) *cobra.Command {
	command := func(name, short string) *cobra.Command {
		return verb(env, name, short, "ferry sync "+name+" -r ship1", &syncCommand{name: name})
	}
	return group("sync", "Show and control the syncs of a connected registry",
		verb(env, "status", "Show whether a connected registry is in sync, tag by tag", `
			ferry sync status -r ship1
			ferry sync status -r ship1 --open -o json
			ferry sync status --data-dir /var/lib/ferry`,
			&syncStatus{}),
		command("now", "Sync now, regardless of the schedule"),
		command("pause", "Stop syncs until ferry sync resume; fetched bytes stay"),
		verb(env, "resolve", "End a conflict with the parent, or give up a change that cannot be sent", `
			ferry sync resolve -r ship1 --image apps/nav:v1
			ferry sync resolve -r ship1 --image apps/nav:v1 --discard`,
			&syncResolve{}, "image"),
		command("resume", "Allow syncs again; they continue from the same byte"),
	)
}

// A syncResolve ends a conflict, or discards a change.
type syncResolve struct {
	target
	image   string
	discard bool
}

func (o *syncResolve) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.image, "image", "t", "IMAGE", "the image: NAME:TAG, or NAME@DIGEST")
	set.BoolVar(&o.discard, "discard", false,
		"also give up a change that the parent does not have yet: the site then follows its parent")
}

func (o *syncResolve) run(ctx context.Context, env *Env, c *client) error {
	image, err := oci.ParseReference("localhost/" + o.image)
	if err != nil {
		return usagef("--image %q: %v", clip(o.image), err)
	}
	q := api.SyncResolvePost{
		Repository: image.Repository, Item: cmp.Or(string(image.Digest), image.Tag), Discard: o.discard,
	}
	done, err := ask[api.SyncResolved](ctx, c,
		call{method: http.MethodPost, path: api.Root + "/sync/resolve", body: q})
	if err != nil {
		return err
	}
	if done.value.Conflicts+done.value.Discarded == 0 {
		fmt.Fprintf(env.Stderr, "warning: there is nothing to resolve of %s\n", o.image)
	}
	return env.print(done.raw)
}

// A syncCommand is one of now, pause and resume.
type syncCommand struct {
	target
	name string
}

func (o *syncCommand) run(ctx context.Context, env *Env, c *client) error {
	s, err := ask[api.SyncStatus](ctx, c, call{method: http.MethodPost, path: api.Root + "/sync/" + o.name})
	if err != nil {
		return err
	}
	if why := detailOf(s.value, budgetSpent); o.name == "now" && why != "" {
		fmt.Fprintf(env.Stderr, "warning: %s\nhint: give it more at the root: "+
			"ferry connected-registry update -n NAME --byte-budget SIZE/day\n", why)
	}
	return show(env, s, syncColumns)
}

var syncColumns = []column[api.SyncStatus]{
	{title: "SYNC (UTC)", text: func(s api.SyncStatus) string { return verdictText(s.Verdict) }},
	{title: "STATE", text: func(s api.SyncStatus) string { return s.State }, rank: 1},
	{title: "PAUSED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.Paused) }},
	{title: "SYNCED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsSynced) }},
	{title: "PENDING", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsPending) }},
	{title: "FAILED", text: func(s api.SyncStatus) string { return fmt.Sprint(s.ItemsFailed) }},
	{title: "LAST SUCCESS (UTC)", text: func(s api.SyncStatus) string {
		return timeText(value(s.Result).LastSuccessfulSyncEndTime)
	}},
}

type syncStatus struct {
	target
	syncListing
	dataDir string // of an instance on this machine, instead of the target
}

func (o *syncStatus) define(set *pflag.FlagSet) {
	o.target.define(set)
	o.syncListing.define(set)
	textVar(set, &o.dataDir, "data-dir", "", "DIR",
		"the data directory of an instance on this machine, instead of --registry; needs no login")
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
	status := call{method: http.MethodGet, path: api.Root + "/sync"}
	s, err := ask[api.SyncStatus](ctx, c, status)
	if err != nil {
		return err
	}
	if env.asText() && env.draws(env.Stdout) {
		now := func() progress { return progressOf(s.value.State, nil, s.value.ByteProgress) }
		err := drawProgress(ctx, env.Stdout, now(), func(ctx context.Context) (m sample, err error) {
			if s, err = ask[api.SyncStatus](ctx, c, status); err != nil {
				return m, err
			}
			query := url.Values{"inFlight": {"true"}, "n": {fmt.Sprint(maxImageBars)}}
			next, err := pages[api.SyncItem](ctx, c, api.Root+"/sync/items", query, "value", maxImageBars)
			return sample{now(), next.value}, err
		})
		if err != nil {
			return err
		}
	}
	return o.show(ctx, env, c, api.Root+"/sync/items", statusText(s.value), s.raw, &s.value)
}
