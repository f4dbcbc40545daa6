package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/retry"
)

func newCoverageCommand(env *Env) *cobra.Command {
	o := &repositoryCoverage{}
	cmd := describe(verb(env, "coverage IMAGE", "Show which sites have an image, which do not, and why", `
		ferry repository coverage -n home factory/app:1.0 -o table
		ferry repository coverage -n home factory/app:1.0 --missing --filter group:baltic
		ferry repository coverage -n home factory/app@sha256:9f86d0... --query percent`, o), `
Show which connected registries have an image, which do not, and why. IMAGE is
REPOSITORY:TAG or REPOSITORY@DIGEST; the digest may be of an image in an index.
A connected registry whose subscription does not have the image is listed as
NotSubscribed, and does not count.`)
	cmd.Args = o.image.arguments
	return cmd
}

// An imageArgument is an image, as the argument of a command or its flag --image.
type imageArgument struct{ text string }

func (i *imageArgument) define(set *pflag.FlagSet, usage string) {
	textVar(set, &i.text, "image", "t", "IMAGE", usage)
}

// arguments reads the arguments of the command.
func (i *imageArgument) arguments(cmd *cobra.Command, args []string) error {
	switch {
	case len(args) == 1 && i.text == "":
		i.text = args[0]
	case len(args) > 0 || i.text == "":
		return withHint(usagef("want one image"), "%s --image factory/app:1.0", cmd.CommandPath())
	}
	return nil
}

type repositoryCoverage struct {
	contentTarget
	image   imageArgument
	filter  string
	missing bool
	top     int
}

func (o *repositoryCoverage) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	o.image.define(set, "the same as the argument IMAGE")
	textVar(set, &o.filter, "filter", "", "TERMS", filterUsage)
	set.BoolVar(&o.missing, "missing", false, "list only sites that should have the image, and are not known to")
	set.IntVar(&o.top, "top", 0, "how many sites are listed at most; 0 is all")
}

func (o *repositoryCoverage) run(ctx context.Context, env *Env, c *client) error {
	v, err := coverageOf(ctx, c, coverageValues(o.image.text, o.filter, o.missing), o.top)
	if err != nil {
		return err
	}
	if env.asTable() {
		fmt.Fprintln(env.Stderr, coverageText(v.value))
		return writeTable(env.Stdout, v.value.Value, coverageColumns)
	}
	return env.print(v.raw)
}

var coverageColumns = []column[api.CoverageItem]{
	{title: "NAME", text: func(i api.CoverageItem) string { return i.Name }},
	{title: "IMAGE", text: func(i api.CoverageItem) string { return i.Image }},
	{title: "REASON", text: func(i api.CoverageItem) string { return value(i.Reason) }},
	{title: "STATE", text: func(i api.CoverageItem) string { return i.Summary.State }, rank: 1},
	{title: "ETA (UTC)", text: func(i api.CoverageItem) string {
		if i.Image == api.Has {
			return ""
		}
		return etaText(i.Summary)
	}, rank: 3},
	{title: "HEARD (UTC)", text: func(i api.CoverageItem) string { return timeText(i.AsOfTime) }, rank: 2},
	{title: "ERROR", text: func(i api.CoverageItem) string { return value(i.Error) }, cut: true, rank: 4},
}

// coverageText is a coverage in a sentence.
func coverageText(v api.Coverage) string {
	text := fmt.Sprintf("%s of %s %s %s (%.1f %%).", thousands(v.Have), thousandsOf(v.Sites, "site"), has(v.Sites),
		v.Image, v.Percent)
	var rest []string
	for _, part := range []struct {
		n    int
		text string
	}{{v.Lack, "without it"}, {v.Unknown, "unknown"}, {v.NotSubscribed, "not subscribed to it"}} {
		if part.n > 0 {
			rest = append(rest, thousands(part.n)+" "+part.text)
		}
	}
	if len(rest) > 0 {
		text += " " + strings.Join(rest, ", ") + "."
	}
	return text
}

// has returns "has" for one thing, and "have" for any other number.
func has(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

func coverageValues(image, filter string, missing bool) url.Values {
	v := url.Values{"image": {image}, "n": {"500"}}
	if filter != "" {
		v.Set("filter", filter)
	}
	if missing {
		v.Set("missing", "true")
	}
	return v
}

// coverageOf returns the coverage of an image, with all sites that it lists, or the first top.
func coverageOf(ctx context.Context, c *client, query url.Values, top int) (v result[api.Coverage], err error) {
	path := api.Root + "/coverage"
	items, err := pages[json.RawMessage](ctx, c, path, query, "value", top)
	if err != nil {
		return v, err
	}
	query.Set("n", "1")
	if v, err = ask[api.Coverage](ctx, c, call{method: "GET", path: path, query: query}); err != nil {
		return v, err
	}
	var all map[string]json.RawMessage
	if err := c.decode(v.raw, &all); err != nil {
		return v, err
	}
	delete(all, "nextLink")
	all["value"] = items.raw
	if v.raw, err = json.Marshal(all); err != nil {
		return v, fmt.Errorf("join pages: %w", err)
	}
	err = c.decode(items.raw, &v.value.Value)
	return v, err
}

func newWaitCommand(env *Env) *cobra.Command {
	o := &waitOptions{percent: 100, timeout: time.Hour}
	cmd := describe(verb(env, "wait", "Wait until sites have an image", `
		ferry wait -r home --image factory/app:1.0
		ferry wait -r home --image factory/app:1.0 --sites group:baltic --percent 95 --timeout 2h`, o), `
Wait until connected registries have an image, for pipelines. The exit code is 0
as soon as they have it, and 1 if they do not at the timeout; the result then
lists those without it. Sites whose subscription does not have the image do not
count. Once the registry has answered, the command waits on while it restarts
or cannot be reached.`)
	cmd.Args = o.image.arguments
	return cmd
}

type waitOptions struct {
	target
	image   imageArgument
	filter  string
	percent float64
	timeout time.Duration
}

func (o *waitOptions) define(set *pflag.FlagSet) {
	o.target.define(set)
	o.image.define(set, "REPOSITORY:TAG or REPOSITORY@DIGEST")
	textVar(set, &o.filter, "sites", "", "TERMS", filterUsage)
	set.Float64Var(&o.percent, "percent", o.percent, "how many of them must have it")
	periodVar(set, &o.timeout, "timeout", "1h", "how long to wait, such as 90s, 30m, 2h or 1d")
}

// maxWait is the longest time for which one request waits.
const maxWait = 50 * time.Second

func (o *waitOptions) run(ctx context.Context, env *Env, c *client) error {
	switch {
	case o.percent <= 0 || o.percent > 100:
		return usagef("--percent %v: want more than 0, and at most 100", o.percent)
	}
	over := time.Now().Add(o.timeout)
	line := newStatusLine(env)
	defer line.end()
	asked := false
	for wait := time.Duration(0); ; asked = true {
		query := coverageValues(o.image.text, o.filter, true)
		query.Set("percent", strconv.FormatFloat(o.percent, 'f', -1, 64))
		query.Set("wait", strconv.Itoa(int(wait/time.Second)))
		query.Set("n", "1")
		v, err := ask[api.Coverage](ctx, c, call{method: "GET", path: api.Root + "/coverage", query: query})
		if asked && err != nil && transient(err) && time.Now().Before(over) { // the root restarts, or the link is down
			line.show(err.Error() + "; trying again")
			if wait = 0; retry.Sleep(ctx, time.Second, nil) != nil {
				return errInterrupted
			}
			continue
		}
		if err != nil {
			return err
		}
		left := time.Until(over)
		reached := v.value.Sites > 0 && v.value.Percent >= o.percent
		if !reached && left > 0 && v.value.Sites > 0 {
			line.show(coverageText(v.value))
			if wait = min(left, maxWait).Truncate(time.Second); wait == 0 {
				wait = time.Second
			}
			continue
		}
		line.end()
		if v, err = coverageOf(ctx, c, coverageValues(o.image.text, o.filter, true), 0); err != nil {
			return err
		}
		if err := o.print(env, v); err != nil || reached {
			return err
		}
		if v.value.Sites == 0 {
			return withHint(fmt.Errorf("no connected registry gets %s", o.image.text),
				"see ferry repository coverage --image %s", o.image.text)
		}
		return withHint(fmt.Errorf("after %s, %s of %s %s %s: want %v %%", o.timeout, thousands(v.value.Have),
			thousandsOf(v.value.Sites, "site"), has(v.value.Sites), v.value.Image, o.percent),
			"the result lists the others; ferry connected-registry sync-status -n SITE says more of one")
	}
}

func (o *waitOptions) print(env *Env, v result[api.Coverage]) error {
	if env.asTable() {
		return writeTable(env.Stdout, v.value.Value, coverageColumns)
	}
	return env.print(v.raw)
}

// A statusLine is a line on a terminal that is drawn anew. Elsewhere each text is a line of its own,
// and a text that is the same as before is not repeated.
type statusLine struct {
	env      *Env
	terminal bool
	last     string
}

func newStatusLine(env *Env) *statusLine {
	return &statusLine{env: env, terminal: env.draws(env.Stderr)}
}

func (l *statusLine) show(text string) {
	if text == l.last {
		return
	}
	if l.last = text; l.terminal {
		fmt.Fprintf(l.env.Stderr, "\r\x1b[K%s", cutText(text, columnsOf(l.env.Stderr)-1))
	} else {
		fmt.Fprintln(l.env.Stderr, text)
	}
}

// end ends the line.
func (l *statusLine) end() {
	if l.terminal && l.last != "" {
		fmt.Fprint(l.env.Stderr, "\r\x1b[K")
	}
	l.last = ""
}
