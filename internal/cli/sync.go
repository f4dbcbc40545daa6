package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newSyncCommand(env *Env) *cobra.Command {
	return group("sync", "Syncs of a connected registry, at the site itself",
		newSyncStatusCommand(env),
		newSyncOrderCommand(env, "now", "Sync now, whatever the schedule says"),
		newSyncOrderCommand(env, "pause", "Stop syncing until it is resumed; what came stays"),
		newSyncOrderCommand(env, "resume", "Let syncs run again, from the same byte"),
	)
}

// newSyncOrderCommand makes a command that tells a site's syncs what to do.
func newSyncOrderCommand(env *Env, order, short string) *cobra.Command {
	var t *target
	cmd := verb(order, short, "ferry sync "+order+" -r ship1", func(cmd *cobra.Command) error {
		c, err := t.client()
		if err != nil {
			return err
		}
		a, err := c.do(cmd.Context(), call{method: http.MethodPost, path: apiRoot + "sync/" + order})
		if err != nil {
			return err
		}
		status, _ := a.value.(map[string]any)
		if why := detailOf(status, budgetSpent); order == "now" && why != "" {
			fmt.Fprintf(env.Stderr, "warning: %s\nhint: give it more at the root: ferry connected-registry update -n NAME --byte-budget SIZE/day\n", why)
		}
		return env.print(a.value, syncColumns())
	})
	t = env.registryFlags(cmd)
	return cmd
}

func syncColumns() []column {
	return []column{
		{title: "IN SYNC", path: "inSync"},
		{title: "STATE", path: "state", spare: 1},
		{title: "PAUSED", path: "paused"},
		{title: "SYNCED", path: "itemsSynced"},
		{title: "PENDING", path: "itemsPending"},
		{title: "FAILED", path: "itemsFailed"},
		{title: "LAST SUCCESS (UTC)", path: "result.lastSuccessfulSyncEndTime", show: seconds},
	}
}

func newSyncStatusCommand(env *Env) *cobra.Command {
	var t *target
	var l *syncListing
	cmd := verb("status", "Show whether a connected registry is in sync, tag by tag, and how fast it gets there", `
		ferry sync status -r ship1
		ferry sync status -r ship1 --open -o json`,
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			ctx := cmd.Context()
			status, err := c.syncStatus(ctx)
			if err != nil {
				return err
			}
			if env.asText() && isTerminal(env.Stdout) {
				if status, err = watchSync(ctx, env.Stdout, status, c.syncMoment); err != nil {
					return err
				}
			}
			items, err := c.syncItems(ctx, "sync/items", l.onlyOpen())
			if err != nil {
				return err
			}
			return l.show(sayStatus(status), status, items, status["itemsSynced"])
		})
	t = env.registryFlags(cmd)
	l = env.syncListing(cmd)
	return cmd
}

// syncStatus returns how a site's sync goes.
func (c *client) syncStatus(ctx context.Context) (map[string]any, error) {
	a, err := c.do(ctx, call{method: http.MethodGet, path: apiRoot + "sync"})
	if err != nil {
		return nil, err
	}
	status, ok := a.value.(map[string]any)
	if !ok {
		return nil, errors.New("the registry's answer is not a sync status")
	}
	return status, nil
}

// syncMoment returns how a site's sync goes, with the images that come next.
func (c *client) syncMoment(ctx context.Context) (now moment, err error) {
	if now.status, err = c.syncStatus(ctx); err != nil {
		return now, err
	}
	a, err := c.do(ctx, call{method: http.MethodGet, path: apiRoot + "sync/items", query: url.Values{"underway": {"true"}, "n": {fmt.Sprint(mostBars)}}})
	now.underway, _ = member(a.value, "value").([]any)
	return now, err
}

// syncItems returns what a site is to have, or what of it is not in sync, as
// the listing at path of the management API has it.
func (c *client) syncItems(ctx context.Context, path string, open bool) ([]any, error) {
	all := []any{}
	query := url.Values{"n": {"1000"}, "open": {fmt.Sprint(open)}}
	for range maxPages {
		a, err := c.do(ctx, call{method: http.MethodGet, path: apiRoot + path, query: query})
		if err != nil {
			return nil, err
		}
		page, _ := member(a.value, "value").([]any)
		all = append(all, page...)
		next, err := url.Parse(cell(member(a.value, "nextLink")))
		if err != nil || next.RawQuery == "" {
			break
		}
		query = next.Query()
	}
	return all, nil
}
