package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

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
		return env.print(a.value, syncColumns())
	})
	t = env.registryFlags(cmd)
	return cmd
}

func syncColumns() []column {
	return []column{
		{title: "IN SYNC", path: "inSync"},
		{title: "STATE", path: "state"},
		{title: "PAUSED", path: "paused"},
		{title: "SYNCED", path: "itemsSynced"},
		{title: "PENDING", path: "itemsPending"},
		{title: "FAILED", path: "itemsFailed"},
		{title: "LAST SUCCESS (UTC)", path: "result.lastSuccessfulSyncEndTime", show: seconds},
	}
}

// syncItemColumns are the columns for items; how far one is has columns where
// one of them is on its way.
func syncItemColumns(items []any) []column {
	columns := []column{
		{title: "REPOSITORY", path: "repository"},
		{title: "TAG", path: "tag"},
		{title: "STATE", path: "state"},
	}
	if slices.ContainsFunc(items, func(v any) bool { return number(member(v, "bytesTotal")) > 0 }) {
		columns = append(columns,
			column{title: "DONE", show: doneOf},
			column{title: "RATE", path: "bytesPerSecond", show: rateOf},
			column{title: "LEFT", path: "etaSeconds", show: leftOf})
	}
	return append(columns,
		column{title: "HERE", path: "digest", show: shortDigest},
		column{title: "PARENT", path: "parentDigest", show: shortDigest},
		column{title: "LAST MATCH (UTC)", path: "lastMatchTime", show: seconds},
		column{title: "ERROR", path: "error"})
}

// doneOf is how much of an item is here.
func doneOf(item any) string {
	total := number(member(item, "bytesTotal"))
	if total == 0 {
		return ""
	}
	return fmt.Sprintf("%s of %s", size(number(member(item, "bytesDone"))), size(total))
}

// rateOf is a number of bytes a second, where there are any.
func rateOf(v any) string {
	if number(v) == 0 {
		return ""
	}
	return size(number(v)) + "/s"
}

// leftOf is a number of seconds, where it is known.
func leftOf(v any) string {
	if v == nil {
		return ""
	}
	return (time.Duration(number(v)) * time.Second).String()
}

// paceOf is how fast something comes and how long it still takes, behind what
// is said of it, as far as that is known.
func paceOf(v map[string]any) (text string) {
	if rate := rateOf(v["bytesPerSecond"]); rate != "" {
		text += ", " + rate
	}
	if left := leftOf(v["etaSeconds"]); left != "" {
		text += ", " + left + " left"
	}
	return text
}

// shortDigest is a column's value for a digest: enough to tell two apart.
func shortDigest(v any) string {
	algorithm, hex, ok := strings.Cut(cell(v), ":")
	if !ok {
		return cell(v)
	}
	return algorithm + ":" + hex[:min(len(hex), 12)]
}

func newSyncStatusCommand(env *Env) *cobra.Command {
	var t *target
	var open bool
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
			plain := cmd.Flags().Changed("output") || env.query != ""
			if !plain && isTerminal(env.Stdout) {
				if status, err = watchSync(ctx, env.Stdout, status, c.syncMoment); err != nil {
					return err
				}
			}
			items, err := c.syncItems(ctx, "sync/items", open)
			if err != nil {
				return err
			}
			if plain {
				status["items"] = items
				columns := syncColumns()
				if env.output.value == "table" && env.query == "" {
					return env.print(items, syncItemColumns(items))
				}
				return env.print(status, columns)
			}
			fmt.Fprintln(env.Stdout, sayStatus(status))
			return printItems(env, items)
		})
	t = env.registryFlags(cmd)
	cmd.Flags().BoolVar(&open, "open", false, "only what is not in sync")
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

// printItems shows items below what was said of them all.
func printItems(env *Env, items []any) error {
	if len(items) == 0 {
		return nil
	}
	fmt.Fprintln(env.Stdout)
	return writeTable(env.Stdout, items, syncItemColumns(items))
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

// sayStatus puts a status into a sentence or two.
func sayStatus(s map[string]any) string {
	synced, pending, failed := number(s["itemsSynced"]), number(s["itemsPending"]), number(s["itemsFailed"])
	var text string
	switch {
	case s["inSync"] == true:
		text = fmt.Sprintf("In sync: %d items.", synced)
	case pending+failed == 0:
		text = "Not in sync: no sync came to its end yet."
	default:
		text = fmt.Sprintf("Not in sync: %d items are in sync, %d are pending, %d failed.", synced, pending, failed)
	}
	if at := cell(member(s, "result.lastSuccessfulSyncEndTime")); at != "" {
		text += " Last in sync at " + seconds(at) + "."
	}
	if total := number(s["bytesTotal"]); total > 0 && pending+failed > 0 {
		text += fmt.Sprintf(" %s of %s are here%s.", size(number(s["bytesDone"])), size(total), paceOf(s))
	}
	details, spent := sayDetails(s)
	text += details
	switch next := cell(s["nextSyncTime"]); {
	case s["paused"] == true:
		text += "\nSyncs are paused; ferry sync resume lets them run again."
	case next != "" && spent:
		text += "\nThe next period in which a sync may run begins at " + seconds(next) + "."
	case next != "":
		text += "\nThe next sync window opens at " + seconds(next) + "; ferry sync now opens one at once."
	}
	return text
}

// sayDetails says what is wrong, a line each, and whether the byte budget is
// spent.
func sayDetails(s map[string]any) (text string, spent bool) {
	all, _ := s["details"].([]any)
	for _, d := range all {
		spent = spent || cell(member(d, "code")) == "BudgetSpent"
		text += "\n" + strings.TrimSuffix(title(printable(cell(member(d, "description")))), ".") + "."
	}
	return text, spent
}

func number(v any) int64 {
	n, _ := v.(float64)
	return int64(n)
}

// size is a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v, i = v/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}
