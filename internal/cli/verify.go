package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
)

const pathScrub = api.Root + "/scrub"

func newVerifyCommand(env *Env) *cobra.Command {
	cmd := verb(env, "verify", "Read all stored content of a registry, and find damage", `
		ferry verify -r home
		ferry verify -r ship1 --show -o json`,
		&verifyOptions{})
	cmd.Long = `Read all stored content of a registry, and find damage.

Damaged content is no longer served: a pull of it fails until the registry has
the content again. A connected registry fetches it from its parent with the next
sync, a mirror rule with its next run; ferry repair starts them at once. Content
that neither a parent nor a source has must be pushed again.

If this command is interrupted, the registry continues. It also reads all
content regularly by itself; see --scrub of ferry serve.

The exit code is 1 if anything is damaged.`
	return cmd
}

func newRepairCommand(env *Env) *cobra.Command {
	cmd := verb(env, "repair", "Verify a registry, and fetch damaged content again", `
		ferry repair -r ship1
		ferry repair -r home -o json`,
		&repairOptions{})
	cmd.Long = `Verify a registry, fetch damaged content again, and wait until that has ended. A
connected registry syncs from its parent, regardless of the schedule; a root
registry runs its mirror rules.

The exit code is 1 if something is still damaged. Content that neither a parent
nor a source has must be pushed again.`
	return cmd
}

// damageOutput shows the result of both commands.
type damageOutput struct {
	target
}

func (o *damageOutput) define(set *pflag.FlagSet) {
	o.target.define(set)
	textOutputVar(set)
}

// show shows the result of a scrub, and returns an error if anything is damaged.
func (o *damageOutput) show(ctx context.Context, env *Env, c *client, v result[api.Scrub], hint string) error {
	damaged, err := damagedOf(ctx, c)
	if err != nil {
		return err
	}
	switch {
	case env.asTable():
		err = writeTable(env.Stdout, damaged.value, damagedColumns)
	case env.asText():
		env.say(scrubText(v.value))
		if len(damaged.value) > 0 {
			err = writeTable(env.Stdout, damaged.value, damagedColumns)
		}
	default:
		var all map[string]json.RawMessage
		if err := json.Unmarshal(v.raw, &all); err != nil {
			return fmt.Errorf("read scrub: %w", err)
		}
		all["damaged"] = damaged.raw
		err = env.print(all)
	}
	switch {
	case err != nil:
		return err
	case len(damaged.value) > 0:
		return withHint(fmt.Errorf("%s damaged, and out of service", itemsAre(len(damaged.value))), "%s", hint)
	case v.value.ItemsUnread > 0:
		return withHint(fmt.Errorf("%s not read", itemsAre(int(v.value.ItemsUnread))), "the registry's log says why")
	}
	return nil
}

// itemsAre is a number of items with a verb, such as "1 item is".
func itemsAre(n int) string { return counted(n, "item") + " " + are(n) }

// damagedOf returns the damaged items, which are not served.
func damagedOf(ctx context.Context, c *client) (result[[]api.Damaged], error) {
	return pages[api.Damaged](ctx, c, api.Root+"/damaged", url.Values{"n": {"1000"}}, "value", 0)
}

var damagedColumns = []column[api.Damaged]{
	{title: "DIGEST", text: func(d api.Damaged) string { return shortDigest(d.Digest) }},
	{title: "SIZE", text: func(d api.Damaged) string { return config.SizeText(d.Size) }},
	{title: "IMAGES", text: func(d api.Damaged) string { return strings.Join(d.Images, ", ") }},
	{title: "WILL BE FETCHED", text: func(d api.Damaged) string {
		if d.Fetchable {
			return "yes"
		}
		return "no: push it again"
	}},
	{title: "FOUND (UTC)", text: func(d api.Damaged) string { return timeText(&d.FoundTime) }, rank: 1},
	{title: "REASON", text: func(d api.Damaged) string { return d.Reason }, cut: true},
}

// scrubText describes a scrub in a sentence.
func scrubText(v api.Scrub) string {
	if v.StartTime == nil {
		text := "There was no scrub yet."
		if v.NextTime != nil {
			text += " The first scrub is due at " + timeText(v.NextTime) + "."
		}
		return text
	}
	read := fmt.Sprintf("%d of %d items, %s", v.ItemsDone, v.ItemsTotal, doneText(v.BytesDone, max(v.BytesTotal, 1)))
	switch v.State {
	case api.ScrubRunning:
		text := fmt.Sprintf("The scrub since %s has read %s%s.", timeText(v.StartTime), read,
			rateAndTimeLeft(api.ByteProgress{BytesPerSecond: v.BytesPerSecond, EtaSeconds: v.EtaSeconds}))
		return text + damagedText(v)
	case api.ScrubWaiting:
		return fmt.Sprintf("The scrub since %s waits for its window: %s are read.", timeText(v.StartTime),
			read) + damagedText(v)
	}
	return fmt.Sprintf("The last scrub read %s, from %s to %s.", counted(int(v.ItemsDone), "item"),
		timeText(v.StartTime), timeText(v.EndTime)) + damagedText(v)
}

func damagedText(v api.Scrub) string {
	if v.DamagedNow == 0 {
		return " Nothing is damaged."
	}
	return fmt.Sprintf(" %s damaged, and out of service until fetched or pushed again:", itemsAre(int(v.DamagedNow)))
}

type verifyOptions struct {
	damageOutput
	showOnly, noWait bool
}

func (o *verifyOptions) define(set *pflag.FlagSet) {
	o.damageOutput.define(set)
	set.BoolVar(&o.showOnly, "show", false,
		"only show the progress of the running scrub, or the result of the last one")
	set.BoolVar(&o.noWait, "no-wait", false, "do not wait for the end; see --show")
}

func (o *verifyOptions) run(ctx context.Context, env *Env, c *client) error {
	var v result[api.Scrub]
	var err error
	switch {
	case o.showOnly:
		v, err = ask[api.Scrub](ctx, c, call{method: http.MethodGet, path: pathScrub})
	case o.noWait:
		v, err = ask[api.Scrub](ctx, c, call{method: http.MethodPost, path: pathScrub})
	default:
		v, err = verify(ctx, env, c)
	}
	if err != nil {
		return err
	}
	return o.show(ctx, env, c, v,
		"ferry repair fetches the content that a parent or a mirror rule has; push the rest again")
}

// verify starts a scrub of a registry, and waits for its end.
func verify(ctx context.Context, env *Env, c *client) (result[api.Scrub], error) {
	v, err := ask[api.Scrub](ctx, c, call{method: http.MethodPost, path: pathScrub})
	if err != nil {
		return v, err
	}
	v, err = await(ctx, env, v, scrubProgress, func(ctx context.Context) (result[api.Scrub], error) {
		return ask[api.Scrub](ctx, c, call{method: http.MethodGet, path: pathScrub})
	})
	if errors.Is(err, errInterrupted) {
		err = withHint(err, "see ferry verify --show")
	}
	return v, err
}

// scrubProgress returns the progress of a scrub.
func scrubProgress(v api.Scrub) progress {
	p := progress{name: "scrubbing", running: v.State != api.ScrubIdle, ByteProgress: api.ByteProgress{
		BytesTotal: v.BytesTotal, BytesDone: v.BytesDone, BytesPerSecond: v.BytesPerSecond, EtaSeconds: v.EtaSeconds,
	}}
	if v.BytesTotal == 0 {
		p.waiting = "nothing is stored"
	}
	return p
}

// maxStill is how many answers in a row end a repair, if neither a sync nor a mirror rule runs: 30 s of them.
const maxStill = int(30 * time.Second / pollInterval)

type repairOptions struct{ damageOutput }

func (o *repairOptions) run(ctx context.Context, env *Env, c *client) error {
	v, err := verify(ctx, env, c)
	if err != nil {
		return err
	}
	damaged, err := damagedOf(ctx, c)
	if err != nil {
		return err
	}
	hint := ""
	if len(damaged.value) > 0 {
		if hint, err = repair(ctx, env, c, damaged.value); err != nil {
			return err
		}
		if v, err = ask[api.Scrub](ctx, c, call{method: http.MethodGet, path: pathScrub}); err != nil {
			return err
		}
	}
	return o.show(ctx, env, c, v, hint)
}

// Hints about content that stays damaged after a repair.
const (
	rootHint = "a root has no parent: push the images again, bring them with a mirror rule " +
		"(ferry mirror list says why one failed), or restore the files from a backup and run ferry repair again"
	connectedHint = "ferry sync status says why content of the parent is missing; push the rest to the root again"
)

// repair makes the registry fetch damaged content again, and waits until it has, or until
// neither a sync nor a mirror rule runs. The hint is about content that is still damaged.
func repair(ctx context.Context, env *Env, c *client, damaged []api.Damaged) (hint string, err error) {
	status, err := ask[api.InstanceStatus](ctx, c, call{method: http.MethodGet, path: api.Root + "/status"})
	if err != nil {
		return "", err
	}
	fmt.Fprintf(env.Stderr, "%s damaged; fetching again what a parent or a source has\n", itemsAre(len(damaged)))
	hint, underway := connectedHint, syncUnderway
	if status.value.Sync == nil {
		hint, underway = rootHint, rulesUnderway
		err = runRules(ctx, c, damaged)
	} else {
		_, err = c.do(ctx, call{method: http.MethodPost, path: api.Root + "/sync/now"})
	}
	if err != nil {
		return hint, err
	}
	still := 0 // answers in a row without one that runs
	err = poll(ctx, sample{all: progress{running: true}}, func(sample) {}, func(ctx context.Context) (sample, error) {
		left, err := damagedOf(ctx, c)
		if err != nil || !slices.ContainsFunc(left.value, func(d api.Damaged) bool { return d.Fetchable }) {
			return sample{}, err
		}
		moving, err := underway(ctx, c)
		if still++; moving {
			still = 0
		}
		return sample{all: progress{running: still < maxStill}}, err
	})
	return hint, err
}

// syncUnderway reports whether a site's sync runs.
func syncUnderway(ctx context.Context, c *client) (bool, error) {
	s, err := ask[api.SyncStatus](ctx, c, call{method: http.MethodGet, path: api.Root + "/sync"})
	return s.value.State == api.Syncing, err
}

// rulesUnderway reports whether a mirror rule runs.
func rulesUnderway(ctx context.Context, c *client) (bool, error) {
	rules, err := pages[api.MirrorRule](ctx, c, api.Root+"/"+mirrorRules.kind, nil, "value", 0)
	for _, r := range rules.value {
		if mirrorProgress(r).running {
			return true, err
		}
	}
	return false, err
}

// runRules runs the mirror rules whose repositories have damaged content.
func runRules(ctx context.Context, c *client, damaged []api.Damaged) error {
	rules, err := pages[api.MirrorRule](ctx, c, api.Root+"/"+mirrorRules.kind, nil, "value", 0)
	if err != nil {
		return err
	}
	for _, r := range rules.value {
		if !needs(damaged, r.Repository) {
			continue
		}
		if _, err := write[api.MirrorRule](ctx, c, http.MethodPost, nil, mirrorRules.kind, r.Name, "run"); err != nil {
			return err
		}
	}
	return nil
}

// needs reports whether an image of repository needs something that is damaged.
func needs(damaged []api.Damaged, repository string) bool {
	for _, d := range damaged {
		for _, image := range d.Images {
			if strings.HasPrefix(image, repository+":") || strings.HasPrefix(image, repository+"@") {
				return true
			}
		}
	}
	return false
}
