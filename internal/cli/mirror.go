package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

var mirrorRules = resource[api.MirrorRule]{"mirror-rules", []column[api.MirrorRule]{
	{title: "NAME", text: func(r api.MirrorRule) string { return r.Name }},
	{title: "SOURCE", text: func(r api.MirrorRule) string { return r.Source }},
	{title: "REPOSITORY", text: func(r api.MirrorRule) string { return r.Repository }},
	{title: "SCHEDULE", text: func(r api.MirrorRule) string { return r.Schedule }, rank: 5},
	{title: "STATE", text: func(r api.MirrorRule) string { return r.Status.State }},
	{title: "SYNCED", text: func(r api.MirrorRule) string { return fmt.Sprint(r.Status.ItemsSynced) }, rank: 3},
	{title: "PENDING", text: func(r api.MirrorRule) string { return fmt.Sprint(r.Status.ItemsPending) }, rank: 4},
	{title: "FAILED", text: func(r api.MirrorRule) string { return fmt.Sprint(r.Status.ItemsFailed) }},
	{title: "LAST SUCCESS (UTC)", rank: 1,
		text: func(r api.MirrorRule) string { return timeText(r.Status.LastSuccessTime) }},
	{title: "ERROR", text: func(r api.MirrorRule) string {
		if len(r.Status.Warnings) > 0 && value(r.Status.Error) == "" {
			return "warning: " + r.Status.Warnings[0].Code
		}
		return value(r.Status.Error)
	}},
}}

func newMirrorCommand(env *Env) *cobra.Command {
	create := verb(env, "create", "Create a rule that syncs a repository, or replace one", `
		ferry mirror create -r home -n alpine --source docker.io/library/alpine --repository local/alpine
		ferry mirror create -r home -n app --source ghcr.io/acme/app --repository acme/app \
		--tag-filter '>=1.4 <3' --schedule '0 2 * * *' --window PT3H
		ferry mirror create -r home -n nginx --source docker.io/library/nginx --repository local/nginx \
		--tag-filter '1.*' --platform linux/amd64 linux/arm64
		ferry mirror create -r home -n base --source registry.corp.example/base --repository base \
		--username bot --password-stdin --ca-file corp-ca.pem < password`,
		&mirrorCreate{}, "name", "source", "repository")
	create.Long = `Create a rule that syncs a repository of this registry from another registry,
on a schedule.

Without a window, the first run begins at once. A run asks for the digest of
each tag, and copies only images that changed. An interrupted layer continues
from the same byte. A tag that the source deleted, or that the filters now
exclude, is deleted in this registry, too; tags that others pushed to the
repository stay. If the source suddenly lists many tags less, nothing is
deleted until a second listing, ten minutes later, is the same.

Without --username, the registry uses the credentials that docker login saved
for the user that it runs as, including those in credential helpers.`
	return group("mirror", "Mirror rules: sync repositories from other registries",
		create,
		verb(env, "list", "List the mirror rules, with the state of their runs", "ferry mirror list -r home -o table",
			&listOptions[api.MirrorRule]{resource: mirrorRules}),
		verb(env, "show", "Show a mirror rule, the state of its runs, and which tags failed",
			"ferry mirror show -r home -n alpine",
			&showOptions[api.MirrorRule]{resource: mirrorRules}, "name"),
		verb(env, "update", "Change a mirror rule; a rule without a window then runs at once", `
			ferry mirror update -r home -n alpine --tag-filter '3.*' latest '!*-rc*'
			ferry mirror update -r home -n alpine --schedule '0 */6 * * *'`,
			&mirrorUpdate{}, "name"),
		verb(env, "delete", "Delete a mirror rule; the images that it brought stay",
			"ferry mirror delete -r home -n alpine --yes",
			&confirmed{do: mirrorRules.delete,
				question: "The mirror rule '%s' will be deleted; its images stay as they are. Proceed?"}, "name"),
		verb(env, "run", "Run a mirror rule now, whatever its schedule says", `
			ferry mirror run -r home -n alpine
			ferry mirror run -r home -n alpine --wait`,
			&mirrorRun{}, "name"),
	)
}

type mirrorCreate struct {
	mirrorSettings
	repository string
}

func (o *mirrorCreate) define(set *pflag.FlagSet) {
	o.mirrorSettings.define(set)
	textVar(set, &o.repository, "repository", "", "NAME",
		"the repository in this registry, which cannot be changed later")
}

func (o *mirrorCreate) run(ctx context.Context, env *Env, c *client) error {
	p, err := o.changes(env)
	if err != nil {
		return err
	}
	put := api.MirrorRulePut{
		Source: value(p.Source), Repository: o.repository, Schedule: value(p.Schedule), Window: value(p.Window),
		TagFilters: p.TagFilters, Platforms: p.Platforms,
		Username: value(p.Username), Password: value(p.Password), CertificateAuthority: value(p.CertificateAuthority),
	}
	return mirrorRules.change(ctx, env, c, http.MethodPut, put, o.name)
}

type mirrorUpdate struct{ mirrorSettings }

func (o *mirrorUpdate) run(ctx context.Context, env *Env, c *client) error {
	patch, err := o.changes(env)
	if err != nil {
		return err
	}
	return mirrorRules.patch(ctx, env, c, patch, o.name, "one of --source, --schedule, --window, --tag-filter, "+
		"--platform, --username, --password-stdin, --ca-file")
}

type mirrorRun struct {
	named
	wait bool
}

func (o *mirrorRun) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.BoolVar(&o.wait, "wait", false,
		"wait for the end of the run; the exit code is 1 unless both sides match then. "+
			"A source that gives no usable answer is asked again for up to 10 minutes")
}

func (o *mirrorRun) run(ctx context.Context, env *Env, c *client) error {
	r, err := write[api.MirrorRule](ctx, c, http.MethodPost, nil, mirrorRules.kind, o.name, "run")
	if err == nil && o.wait {
		r, err = await(ctx, env, r, mirrorProgress, func(ctx context.Context) (result[api.MirrorRule], error) {
			return get[api.MirrorRule](ctx, c, mirrorRules.kind, o.name)
		})
		if why := value(r.value.Status.Error); err == nil && why != "" {
			err = withHint(errors.New(why), "see ferry mirror show -n %s", r.value.Name)
		}
		printSourceWarnings(env, r.value.Status.Warnings)
	}
	if err != nil {
		return err
	}
	return show(env, r, mirrorRules.columns)
}

// printSourceWarnings prints what a run or an import noticed about the other registry.
func printSourceWarnings(env *Env, all []api.SourceWarning) {
	for _, w := range all {
		fmt.Fprintf(env.Stderr, "warning: %s: %s\n", terminal.Printable(w.Code), terminal.Printable(w.Message))
	}
}

// mirrorProgress returns the progress of a rule's run.
func mirrorProgress(r api.MirrorRule) progress {
	p := progressOf(r.Status.State, r.Status.Error, r.Status.ByteProgress)
	if p.running && value(r.Status.Error) != "" {
		p.waiting = "waiting for the source, which is asked again for up to 10 minutes: " +
			terminal.Printable(*r.Status.Error)
	}
	return p
}

// mirrorSettings are the name of a mirror rule and those settings that can be changed.
type mirrorSettings struct {
	named
	sourceLogin
	patch api.MirrorRulePatch
}

func (m *mirrorSettings) define(set *pflag.FlagSet) {
	m.named.define(set)
	textOption(set, &m.patch.Source, "source", "", "HOST/REPOSITORY",
		"the repository to sync from, such as docker.io/library/alpine; http:// before the host means no TLS")
	textOption(set, &m.patch.Schedule, "schedule", "s", "CRON",
		"when it runs: cron with five fields, in UTC (default \"0 * * * *\", once an hour)")
	textOption(set, &m.patch.Window, "window", "w", "DURATION",
		"how long a run may last: ISO 8601, PT1H to P7D; \"\" is no limit (default no limit)")
	listOption(set, &m.patch.TagFilters, "tag-filter", "FILTER...",
		"sync only tags that match one of these filters: "+filterForms)
	listOption(set, &m.patch.Platforms, "platform", "PLATFORM...", platformsUsage)
	m.sourceLogin.define(set)
}

// changes returns the settings that the flags gave.
func (m *mirrorSettings) changes(env *Env) (api.MirrorRulePatch, error) {
	err := m.read(env)
	p := m.patch
	p.Username, p.Password, p.CertificateAuthority = m.username, m.sourceLogin.password, m.certificates
	return p, err
}

// A sourceLogin is the credentials for another registry, and the certificates to trust.
type sourceLogin struct {
	username, password *string
	caFile             *string
	certificates       *string // the contents of caFile
	stdin              bool    // read the password from standard input
}

func (l *sourceLogin) define(set *pflag.FlagSet) {
	textOption(set, &l.username, "username", "u", "USER",
		"user at the source (default the credentials that docker login saved for the registry's user)")
	textOption(set, &l.password, "password", "p", "PASSWORD",
		"its password. Other users of this machine can see it in the list of processes; prefer --password-stdin")
	set.BoolVar(&l.stdin, "password-stdin", false, "read the password from standard input")
	textOption(set, &l.caFile, "ca-file", "", "FILE",
		"PEM file with certificate authorities to trust for the source, besides those of the registry's machine; "+
			"\"\" is none")
}

// maxCertificates bounds the file of --ca-file, in bytes.
const maxCertificates = 256 << 10

// read reads the password from standard input and the certificates from their file, if the
// flags say so.
func (l *sourceLogin) read(env *Env) error {
	if l.stdin {
		if l.password != nil {
			return usagef("--password and --password-stdin exclude each other")
		}
		text, err := env.readPassword(true)
		if err != nil {
			return err
		}
		l.password = &text
	}
	if l.caFile != nil {
		text, err := readCertificates(*l.caFile)
		if err != nil {
			return err
		}
		l.certificates = &text
	}
	return nil
}

func readCertificates(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := readFile(path, maxCertificates)
	if err != nil {
		return "", fmt.Errorf("read certificates: %w", err)
	}
	return string(text), nil
}
