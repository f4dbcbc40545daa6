package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/terminal"
)

var purgeRules = resource[api.PurgeRule]{"purge-rules", []column[api.PurgeRule]{
	{title: "NAME", text: func(r api.PurgeRule) string { return r.Name }},
	{title: "FILTERS", text: func(r api.PurgeRule) string { return strings.Join(r.Filters, " ") }, cut: true},
	{title: "AGO", text: func(r api.PurgeRule) string { return r.Ago }, rank: 3},
	{title: "KEEP", text: func(r api.PurgeRule) string { return numberText(r.Keep) }, rank: 3},
	{title: "UNTAGGED", text: func(r api.PurgeRule) string { return yesText(r.Untagged) }, rank: 4},
	{title: "SCHEDULE", text: func(r api.PurgeRule) string { return r.Schedule }, rank: 1},
	{title: "STATE", text: func(r api.PurgeRule) string { return r.Status.State }},
	{title: "LAST RUN (UTC)", text: func(r api.PurgeRule) string { return timeText(r.Status.LastRunEndTime) }, rank: 2},
	{title: "REMOVED", rank: 2, text: func(r api.PurgeRule) string {
		return fmt.Sprint(r.Status.TagsRemoved + r.Status.ManifestsRemoved)
	}},
	{title: "FREED", text: func(r api.PurgeRule) string { return config.SizeText(r.Status.BytesFreed) }, rank: 2},
	{title: "HELD", text: func(r api.PurgeRule) string { return numberText(r.Status.Held) }, rank: 4},
}}

func numberText(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

func yesText(yes bool) string {
	if yes {
		return "yes"
	}
	return ""
}

const purgeLong = `
Remove old tags, and manifests that nothing refers to. Run it with --dry-run
first: that removes nothing, and lists exactly what would be removed.

A tag is removed if a filter matches it, it was last set longer ago than --ago,
and it is not one of the newest --keep tags that match. Without --ago and --keep
no tag is removed. --untagged also removes manifests that have no tag, that no
index holds, and that are no signature or other referrer of a manifest that
stays; with --ago only those that were pushed longer ago.

These stay, and are listed with the reason:
  Locked    its deleteEnabled or writeEnabled is false
  Mirrored  a mirror rule keeps it
  Young     nothing has referred to it yet, and it was pushed within a day: it
            may belong to a push that is in progress
  Unheard   a connected registry has not heard yet that it is not needed any
            more; it is waited for as long as its message TTL
  Moved     it changed in the meantime

Garbage collection frees the space after its grace period, which is an hour.`

func newPurgeCommand(env *Env) *cobra.Command {
	return describe(verb(env, "purge", "Remove old tags, and manifests that nothing refers to", `
		ferry repository purge -n home --filter 'factory/app:^dev-' --ago 30d --dry-run
		ferry repository purge -n home --filter 'factory/*:.*' --ago 90d --keep 5 --untagged
		ferry repository purge -n home --repository factory/app --untagged --yes`,
		&purge{}), purgeLong)
}

// purgeFlags are the flags of a policy.
type purgeFlags struct {
	policy       api.PurgePolicy
	repositories []string
}

func (f *purgeFlags) define(set *pflag.FlagSet) {
	namesVar(set, &f.policy.Filters, "filter", "", "REPOSITORY:REGEX...",
		"tags that match the regular expression, in repositories with this name or pattern, such as 'factory/*:^dev-'")
	namesVar(set, &f.repositories, "repository", "", "NAME...", "the same as --filter 'NAME:.*'")
	textVar(set, &f.policy.Ago, "ago", "", "AGE", "remove tags that were set longer ago than this, such as 30d or 12h")
	set.IntVar(&f.policy.Keep, "keep", 0, "keep the newest so many matching tags of each repository")
	set.BoolVar(&f.policy.Untagged, "untagged", false, "also remove manifests that nothing refers to")
}

func (f *purgeFlags) read() api.PurgePolicy {
	p := f.policy
	for _, name := range f.repositories {
		p.Filters = append(p.Filters, name+":.*")
	}
	return p
}

// check returns a usage error unless the flags say what to remove.
func (f *purgeFlags) check() error {
	if len(f.policy.Filters)+len(f.repositories) == 0 {
		return usagef("the following arguments are required: --filter or --repository")
	}
	if f.policy.Ago == "" && f.policy.Keep == 0 && !f.policy.Untagged {
		return withHint(usagef("nothing would be removed: want --ago, --keep or --untagged"),
			"--ago 30d removes tags that were set more than 30 days ago")
	}
	return nil
}

type purge struct {
	contentTarget
	confirmation
	purgeFlags
	dryRun bool
}

func (o *purge) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	o.purgeFlags.define(set)
	set.BoolVar(&o.dryRun, "dry-run", false, "remove nothing, and list what would be removed and what is held back")
	o.confirmation.define(set)
}

func (o *purge) run(ctx context.Context, env *Env, c *client) error {
	if err := o.check(); err != nil {
		return err
	}
	post := api.PurgePost{PurgePolicy: o.read(), DryRun: true}
	if !o.dryRun && !o.yes {
		plan, err := c.purge(ctx, env, post)
		if err != nil {
			return err
		}
		err = o.ask(env, "This operation will remove %s and %s (%s); %s. Are you sure you want to continue?",
			counted(plan.TagsRemoved, "tag"), counted(plan.ManifestsRemoved, "manifest"),
			config.SizeText(plan.BytesFreed),
			fmt.Sprintf("%d are held back", plan.Held))
		if err != nil {
			return err
		}
	}
	post.DryRun = o.dryRun
	all, err := c.purge(ctx, env, post)
	if err != nil {
		return err
	}
	if env.asTable() {
		return writeTable(env.Stdout, append(all.Removed, all.Kept...), purgeColumns())
	}
	return env.print(all)
}

func purgeColumns() []column[api.PurgeItem] {
	return []column[api.PurgeItem]{
		{title: "REPOSITORY", text: func(i api.PurgeItem) string { return i.Repository }},
		{title: "TAG", text: func(i api.PurgeItem) string { return i.Tag }, cut: true},
		{title: "DIGEST", text: func(i api.PurgeItem) string { return i.Digest }, rank: 1, cut: true},
		{title: "FREED", rank: 2, text: func(i api.PurgeItem) string {
			if i.Bytes == 0 {
				return ""
			}
			return config.SizeText(i.Bytes)
		}},
		{title: "STAYS", text: func(i api.PurgeItem) string { return i.Reason }},
		{title: "WAITS FOR", text: func(i api.PurgeItem) string { return strings.Join(i.ConnectedRegistries, " ") },
			rank: 3},
	}
}

// purge does all steps of a purge, and writes its progress.
func (c *client) purge(ctx context.Context, env *Env, q api.PurgePost) (all api.PurgeResult, err error) {
	all.Removed, all.Kept = []api.PurgeItem{}, []api.PurgeItem{}
	for {
		r, err := ask[api.PurgeResult](ctx, c, call{method: http.MethodPost, path: api.Root + "/purge", body: q})
		if err != nil {
			return all, err
		}
		v := r.value
		all.TagsRemoved, all.ManifestsRemoved = all.TagsRemoved+v.TagsRemoved, all.ManifestsRemoved+v.ManifestsRemoved
		all.BytesFreed, all.Held = all.BytesFreed+v.BytesFreed, all.Held+v.Held
		all.Removed, all.Kept = append(all.Removed, v.Removed...), append(all.Kept, v.Kept...)
		if v.Next == "" {
			return all, nil
		}
		if v.Next == q.Next {
			return all, fmt.Errorf("%s answered with a step that leads to itself", c.base)
		}
		q.Next = v.Next
		fmt.Fprintf(env.Stderr, "%s and %s so far, %s\n", counted(all.TagsRemoved, "tag"),
			counted(all.ManifestsRemoved, "manifest"), config.SizeText(all.BytesFreed))
	}
}

func newPurgeRuleCommand(env *Env) *cobra.Command {
	return group("purge-rule", "Purge rules: purge repositories on a schedule",
		describe(verb(env, "create", "Create a rule that purges on a schedule, or replace one", `
			ferry repository purge-rule create -r home -n nightly --filter 'factory/*:^dev-' --ago 30d --untagged
			ferry repository purge-rule create -r home -n weekly --repository base --keep 10 --schedule '0 4 * * 0'`,
			&purgeRuleCreate{}, "name"), `
Create a rule that purges on a schedule, or replace one. See what it would
remove with ferry repository purge --dry-run and the same flags.`),
		verb(env, "list", "List the purge rules, with the results of their last runs",
			"ferry repository purge-rule list -r home -o table",
			&listOptions[api.PurgeRule]{resource: purgeRules}),
		verb(env, "show", "Show a purge rule, with the result of its last run",
			"ferry repository purge-rule show -r home -n nightly",
			&showOptions[api.PurgeRule]{resource: purgeRules}, "name"),
		verb(env, "delete", "Delete a purge rule", "ferry repository purge-rule delete -r home -n nightly --yes",
			&confirmed{do: purgeRules.delete, question: "The purge rule '%s' will be deleted. Proceed?"}, "name"),
		verb(env, "run", "Run a purge rule now, whatever its schedule says", `
			ferry repository purge-rule run -r home -n nightly
			ferry repository purge-rule run -r home -n nightly --wait`,
			&purgeRuleRun{}, "name"),
	)
}

type purgeRuleCreate struct {
	named
	purgeFlags
	schedule string
}

func (o *purgeRuleCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.purgeFlags.define(set)
	textVar(set, &o.schedule, "schedule", "s", "CRON",
		"when it runs: cron with five fields, in UTC (default \"0 3 * * *\", every day at 03:00)")
}

func (o *purgeRuleCreate) run(ctx context.Context, env *Env, c *client) error {
	if err := o.check(); err != nil {
		return err
	}
	put := api.PurgeRulePut{PurgePolicy: o.read(), Schedule: o.schedule}
	return purgeRules.change(ctx, env, c, http.MethodPut, put, o.name)
}

type purgeRuleRun struct {
	named
	wait bool
}

func (o *purgeRuleRun) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.wait, "wait", false, "wait for the end of the run; the exit code is 1 if it fails")
}

func (o *purgeRuleRun) run(ctx context.Context, env *Env, c *client) error {
	r, err := write[api.PurgeRule](ctx, c, http.MethodPost, nil, purgeRules.kind, o.name, "run")
	if err == nil && o.wait {
		r, err = await(ctx, env, r, purgeProgress, func(ctx context.Context) (result[api.PurgeRule], error) {
			return get[api.PurgeRule](ctx, c, purgeRules.kind, o.name)
		})
		if why := value(r.value.Status.Error); err == nil && why != "" {
			err = fmt.Errorf("the run failed: %s", terminal.Printable(why))
		}
	}
	if err != nil {
		return err
	}
	return show(env, r, purgeRules.columns)
}

// purgeProgress returns the progress of a rule's run.
func purgeProgress(r api.PurgeRule) progress {
	p := progressOf(r.Status.State, nil, api.ByteProgress{})
	if p.running {
		p.waiting = "purging"
	}
	return p
}
