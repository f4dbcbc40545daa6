package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/terminal"
)

const filterUsage = "only those that satisfy all terms, such as 'state:behind behind>1d group:baltic'; " +
	"ferry connected-registry list --help has the grammar"

// filterHelp is the grammar of filters, for the help of commands.
const filterHelp = `Terms of --filter, of which all must hold:
  name:ship*  parent:ship1  mode:ReadOnly  image:apps/nav:1.4
  state:behind,silent  reason:DiskError
  behind>1d  heard>2h  items>100  bytes>2GiB  version:<0.3
  group:baltic  any other key is a label
A * is any text, and - or ! before a term excludes what it selects.`

// fleetColumns are the columns of a list that says how each connected registry stands.
var fleetColumns = []column[api.ConnectedRegistry]{
	{title: "NAME", text: func(r api.ConnectedRegistry) string { return r.Name }},
	{title: "STATE", text: func(r api.ConnectedRegistry) string { return r.Summary.State }},
	{title: "REASON", text: reasonText},
	{title: "LAG", text: func(r api.ConnectedRegistry) string { return spanText(r.Summary.LagSeconds) }},
	{title: "TO GO", text: func(r api.ConnectedRegistry) string { return toGoText(r.Summary) }, rank: 1},
	{title: "ETA (UTC)", text: func(r api.ConnectedRegistry) string { return etaText(r.Summary) }, rank: 3},
	{title: "HEARD", text: func(r api.ConnectedRegistry) string { return heardText(r) }, rank: 2},
	{title: "RATE", text: func(r api.ConnectedRegistry) string { return rateText(r.Summary.BytesPerSecond) }, rank: 5},
	{title: "PARENT", text: func(r api.ConnectedRegistry) string { return lastSegment(value(r.Parent.ID)) }, rank: 4},
	{title: "VERSION", text: func(r api.ConnectedRegistry) string { return value(r.Version) }, rank: 7},
	{title: "LABELS", text: func(r api.ConnectedRegistry) string { return labelsText(r.Labels) }, rank: 6},
	{title: "MODE", text: func(r api.ConnectedRegistry) string { return r.Mode }, rank: 8},
	{title: "CONNECTION STATE", text: func(r api.ConnectedRegistry) string { return r.ConnectionState }, rank: 9},
	{title: "LOGIN SERVER", text: func(r api.ConnectedRegistry) string { return value(r.LoginServer).Host }, rank: 10},
}

// reasonText is the code of a reason, with the connected registry that causes it.
func reasonText(r api.ConnectedRegistry) string {
	text := value(r.Summary.Reason)
	if cause := value(r.Summary.Cause); cause != "" {
		text += " (" + cause + ")"
	}
	return text
}

// spanText is a number of seconds in its two largest units, such as "2 d 4 h"; "" is none.
func spanText(seconds *int64) string {
	if seconds == nil {
		return ""
	}
	n := *seconds
	for _, unit := range []struct {
		size, part int64
		name, next string
	}{{86400, 3600, "d", "h"}, {3600, 60, "h", "min"}, {60, 0, "min", ""}} {
		if n < unit.size {
			continue
		}
		text := fmt.Sprintf("%d %s", n/unit.size, unit.name)
		if unit.part > 0 && n%unit.size >= unit.part {
			text += fmt.Sprintf(" %d %s", n%unit.size/unit.part, unit.next)
		}
		return text
	}
	return fmt.Sprintf("%d s", n)
}

// toGoText says how many items and bytes are to go; "" is none.
func toGoText(s api.Summary) string {
	switch {
	case s.ItemsToGo > 0 || s.BytesToGo > 0:
	case s.AtLeast:
		return "unknown"
	default:
		return ""
	}
	text := counted(s.ItemsToGo, "item")
	if s.BytesToGo > 0 {
		text += ", " + config.SizeText(s.BytesToGo)
	}
	switch {
	case s.AtLeast && s.AtMost:
		return "~" + text
	case s.AtLeast:
		return text + "+"
	case s.AtMost:
		return "≤" + text
	}
	return text
}

// etaText says when a connected registry should have everything, or when its next window opens.
func etaText(s api.Summary) string {
	switch n := value(s.EtaWindows); {
	case s.EtaTime == nil && s.NextWindowTime != nil && s.State != api.InSync:
		return "opens " + shortTime(*s.NextWindowTime)
	case s.EtaTime == nil:
		return ""
	case n > 1:
		return fmt.Sprintf("%s, in %d windows", shortTime(*s.EtaTime), n)
	}
	return shortTime(*s.EtaTime)
}

// shortTime is a time within the next week by its weekday, and any other one by its date.
func shortTime(t time.Time) string {
	if until := time.Until(t); until > 0 && until < 6*24*time.Hour {
		return t.UTC().Format("Mon 15:04")
	}
	return t.UTC().Format("2 Jan 15:04")
}

// heardText says how long ago a connected registry was heard.
func heardText(r api.ConnectedRegistry) string {
	if r.LastActivityTime == nil {
		return "never"
	}
	age := int64(max(time.Since(*r.LastActivityTime), 0) / time.Second)
	return spanText(&age) + " ago"
}

func labelsText(labels map[string]string) string {
	var all []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, key+"="+labels[key])
	}
	return strings.Join(all, " ")
}

// stateWords are the states in the sentence on a fleet, the worst last, without InSync.
var stateWords = []struct{ state, one, many string }{
	{api.Behind, "behind", "behind"}, {api.Silent, "silent", "silent"}, {api.NeedsYou, "needs you", "need you"},
	{api.Waiting, "waiting", "waiting"}, {api.CatchingUp, "catching up", "catching up"},
	{api.Unknown, "unknown", "unknown"},
}

// fleetText is the state of a fleet in a sentence or two.
func fleetText(f api.Fleet) string {
	counts := map[string]api.StateCount{}
	for _, c := range f.States {
		counts[c.State] = c
	}
	text := fmt.Sprintf("%s of %s in sync.", thousands(f.InSync), thousandsOf(f.Sites, "site"))
	var parts []string
	for _, w := range stateWords {
		c := counts[w.state]
		if c.Sites == 0 {
			continue
		}
		word := w.many
		if c.Sites == 1 {
			word = w.one
		}
		part := thousands(c.Sites) + " " + word
		if w.state == api.Behind {
			oldest := int64(max(f.Time.Sub(value(f.OldestSince)), 0) / time.Second)
			part += fmt.Sprintf(" (oldest %s, %s to go)", spanText(&oldest), config.SizeText(c.BytesToGo))
		}
		parts = append(parts, part)
	}
	if len(parts) > 0 {
		text += " " + strings.Join(parts, ", ") + "."
	}
	return text
}

// reasonsText has a line for each reason, with what settles it.
func reasonsText(f api.Fleet) (text string) {
	for _, r := range f.Reasons {
		text += fmt.Sprintf("\n%6s  %-14s %s", thousands(r.Sites), r.Reason, r.Action)
	}
	return text
}

// thousands is a number with commas, such as 3,812.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for at := len(text) - 3; at > 0; at -= 3 {
		text = text[:at] + "," + text[at:]
	}
	return text
}

func thousandsOf(n int, thing string) string { return thousands(n) + " " + plural(n, thing) }

// A fleetQuery selects connected registries.
type fleetQuery struct {
	parent, filter string
	children       string // "direct" or ""
	worst          bool
	top            int // 0 is all
}

func (q fleetQuery) values() url.Values {
	v := url.Values{}
	for key, text := range map[string]string{"parent": q.parent, "filter": q.filter, "children": q.children} {
		if text != "" {
			v.Set(key, text)
		}
	}
	return v
}

// list returns the connected registries.
func (q fleetQuery) list(ctx context.Context, c *client) (result[[]api.ConnectedRegistry], error) {
	v := q.values()
	if v.Set("n", "500"); q.top > 0 {
		v.Set("n", strconv.Itoa(min(q.top, 500)))
	}
	if q.worst {
		v.Set("sort", "worst")
	}
	return pages[api.ConnectedRegistry](ctx, c, api.Root+"/"+connectedRegistries.kind, v, "value", q.top)
}

// counts returns how many connected registries are in which state.
func (q fleetQuery) counts(ctx context.Context, c *client) (result[api.Fleet], error) {
	v := q.values()
	v.Del("children")
	return ask[api.Fleet](ctx, c, call{method: "GET", path: api.Root + "/fleet", query: v})
}

// watchEvery is how often --watch asks.
const watchEvery = 5 * time.Second

func watchVar(set *pflag.FlagSet, to *bool) {
	set.BoolVarP(to, "watch", "w", false,
		"show it again and again: drawn anew on a terminal, else a line for each change; until Ctrl-C")
}

// watch shows connected registries until ctx ends. On a terminal it draws anew what draw returns.
// Elsewhere it prints a line for each change of a connected registry that q selects, however many
// they are.
func (q fleetQuery) watch(
	ctx context.Context, env *Env, c *client, draw func(ctx context.Context) (text string, err error),
) error {
	if env.draws(env.Stdout) {
		return repeat(ctx, env, func(ctx context.Context) error {
			text, err := draw(ctx)
			if err == nil {
				fmt.Fprint(env.Stdout, "\x1b[H\x1b[2J"+screen(text, linesOf(env.Stdout)))
			}
			return err
		})
	}
	q.top = 0
	known := map[string]string{}
	return repeat(ctx, env, func(ctx context.Context) error {
		all, err := q.list(ctx, c)
		if err == nil {
			sayChanges(env, known, all.value)
		}
		return err
	})
}

// repeat does something again and again until ctx ends. Only the first error ends it.
func repeat(ctx context.Context, env *Env, do func(ctx context.Context) error) error {
	for first := true; ; first = false {
		switch err := do(ctx); {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		case err != nil:
			fmt.Fprintln(env.Stderr, "warning:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

// screen is text with a last line that says when it was drawn. It has at most so many lines as a
// terminal.
func screen(text string, lines int) string {
	all := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if room := lines - 2; room > 0 && len(all) > room+1 { // the cursor is on a line of its own
		rest := thousandsOf(len(all)-room+1, "line")
		all = append(all[:room-1], "... and "+rest+", for which this terminal is not high enough")
	}
	end := fmt.Sprintf("%s (every %s; Ctrl-C ends)", time.Now().UTC().Format(time.TimeOnly), watchEvery)
	return strings.Join(append(all, end), "\n") + "\n"
}

// sayChanges prints a line for each connected registry whose state or reason is not the known one, or
// that is no longer listed.
func sayChanges(env *Env, known map[string]string, all []api.ConnectedRegistry) {
	at := timeText(new(time.Now()))
	listed := map[string]bool{}
	for _, r := range all {
		now := strings.TrimSpace(r.Summary.State + " " + reasonText(r))
		if listed[r.Name] = true; known[r.Name] != now {
			env.say(terminal.Printable(fmt.Sprintf("%s %s %s", at, r.Name, now)))
		}
		known[r.Name] = now
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if !listed[name] {
			env.say(fmt.Sprintf("%s %s is no longer listed", at, name))
			delete(known, name)
		}
	}
}

// errShowsNoTable refuses --watch with an output for programs.
var errShowsNoTable = errors.New("--watch shows text or a table")

// fleetStatus shows how a fleet stands: the counts, the reasons, and the worst connected registries.
func fleetStatus(ctx context.Context, env *Env, c *client, q fleetQuery, watching bool) error {
	table := env.asTable()
	if watching && !env.asText() && !table {
		return usageError{errShowsNoTable}
	}
	draw := func(ctx context.Context) (string, error) {
		f, err := q.counts(ctx, c)
		if err != nil {
			return "", err
		}
		listed := q
		if q.filter == "" && q.top > 0 {
			listed.filter = "-state:" + api.InSync // the sentence counts them
		}
		all, err := listed.list(ctx, c)
		if err != nil {
			return "", err
		}
		text := fleetText(f.value)
		if width := columnsOf(env.Stdout); width > 0 {
			text = wrap(text, 0, 0, width)
		}
		text += reasonsText(f.value)
		if rows := layout(all.value, fleetColumns, columnsOf(env.Stdout)); rows != "" {
			text += "\n\n" + strings.TrimSuffix(rows, "\n")
		}
		if rest := f.value.Sites - len(all.value); rest > 0 {
			text += fmt.Sprintf("\n... and %s; --top 0 lists all.", thousandsOf(rest, "other site"))
		}
		return text, nil
	}
	switch {
	case watching:
		return q.watch(ctx, env, c, draw)
	case env.asText():
		text, err := draw(ctx)
		if err == nil {
			env.say(text)
		}
		return err
	}
	f, err := q.counts(ctx, c)
	if err != nil {
		return err
	}
	all, err := q.list(ctx, c)
	if err != nil {
		return err
	}
	if table {
		fmt.Fprintln(env.Stderr, fleetText(f.value))
		return writeTable(env.Stdout, all.value, fleetColumns)
	}
	return env.print(map[string]json.RawMessage{"fleet": f.raw, "value": all.raw})
}
