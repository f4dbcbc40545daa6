package cli

import (
	"context"
	"errors"
	"net/http"

	"github.com/spf13/cobra"
)

// mirrorRules is the kind of resource that mirror rules are.
const mirrorRules = "mirror-rules"

func mirrorColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "SOURCE", path: "source"},
		{title: "REPOSITORY", path: "repository"},
		{title: "SCHEDULE", path: "schedule"},
		{title: "STATE", path: "status.state"},
		{title: "SYNCED", path: "status.itemsSynced"},
		{title: "PENDING", path: "status.itemsPending"},
		{title: "FAILED", path: "status.itemsFailed"},
		{title: "LAST SUCCESS (UTC)", path: "status.lastSuccessTime", show: seconds},
		{title: "ERROR", path: "status.error"},
	}
}

func newMirrorCommand(env *Env) *cobra.Command {
	return group("mirror", "Mirror rules: repositories that follow those of other registries",
		newMirrorCreateCommand(env),
		newMirrorListCommand(env),
		newMirrorShowCommand(env),
		newMirrorUpdateCommand(env),
		newMirrorDeleteCommand(env),
		newMirrorRunCommand(env),
	)
}

func newMirrorCreateCommand(env *Env) *cobra.Command {
	var name, repository string
	var f *mirrorFlags
	cmd := resourceVerb(env, &name, "create", "Keep a repository in step with one of another registry, or replace the rule that does", `
		ferry mirror create -r home -n alpine --source docker.io/library/alpine --repository local/alpine
		ferry mirror create -r home -n app --source ghcr.io/acme/app --repository acme/app --tag-filter '>=1.4 <3' --schedule '0 2 * * *' --window PT3H
		ferry mirror create -r home -n nginx --source docker.io/library/nginx --repository local/nginx --tag-filter '1.*' --platform linux/amd64 linux/arm64
		ferry mirror create -r home -n base --source registry.corp.example/base --repository base --username bot --password-stdin --ca-file corp-ca.pem < password`,
		func(ctx context.Context, c *client) error {
			body, err := f.changes()
			if err != nil {
				return err
			}
			body["repository"] = repository
			v, err := c.putResource(ctx, mirrorRules, name, body)
			if err != nil {
				return err
			}
			return env.print(v, mirrorColumns())
		})
	cmd.Long = `Keep a repository here in step with one of another registry, on a schedule.

Without a window, the first run begins at once. A run asks for the digest of
each tag; manifests move only where that is new, and layers go on from the
same byte after whatever broke them off. Tags that left the source, or that
the filters leave out, go here, too; tags that others push to the repository
stay.

Without --username, the registry uses what docker login has kept for the user
that it runs as, credential helpers included.`
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return require(cmd, "name", "source", "repository") }
	f = defineMirrorFlags(env, cmd.Flags())
	textVar(cmd.Flags(), &repository, "repository", "", "NAME", "the repository here; a rule keeps it for good")
	return cmd
}

func newMirrorListCommand(env *Env) *cobra.Command {
	var t *target
	cmd := verb("list", "List the mirror rules, and how their runs go", "ferry mirror list -r home -o table",
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			v, err := c.list(cmd.Context(), mirrorRules, nil)
			if err != nil {
				return err
			}
			return env.print(v, mirrorColumns())
		})
	t = env.registryFlags(cmd)
	return cmd
}

func newMirrorShowCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "show", "Show a mirror rule, how its runs go, and which tags failed", "ferry mirror show -r home -n alpine",
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, mirrorRules, name, nil)
			if err != nil {
				return err
			}
			return env.print(v, mirrorColumns())
		})
}

func newMirrorUpdateCommand(env *Env) *cobra.Command {
	var name string
	var f *mirrorFlags
	cmd := resourceVerb(env, &name, "update", "Change a mirror rule; a rule without a window runs at once", `
		ferry mirror update -r home -n alpine --tag-filter '3.*' latest
		ferry mirror update -r home -n alpine --schedule '0 */6 * * *'`,
		func(ctx context.Context, c *client) error {
			changes, err := f.changes()
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				return usagef("nothing to change: want one of --source, --schedule, --window, --tag-filter, --platform, --username, --password-stdin, --ca-file")
			}
			v, err := c.resource(ctx, http.MethodPatch, mirrorRules, name, changes)
			if err != nil {
				return err
			}
			return env.print(v, mirrorColumns())
		})
	f = defineMirrorFlags(env, cmd.Flags())
	return cmd
}

func newMirrorDeleteCommand(env *Env) *cobra.Command {
	var name string
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "delete", "Delete a mirror rule; the images that it brought stay", "ferry mirror delete -r home -n alpine --yes",
		func(ctx context.Context, c *client) error {
			if err := confirm.ask("The mirror rule '%s' will be deleted; its images stay as they are. Proceed?", name); err != nil {
				return err
			}
			_, err := c.resource(ctx, http.MethodDelete, mirrorRules, name, nil)
			return err
		})
	confirm = env.confirmation(cmd.Flags())
	return cmd
}

func newMirrorRunCommand(env *Env) *cobra.Command {
	var name string
	var wait bool
	cmd := resourceVerb(env, &name, "run", "Run a mirror rule now, whatever its schedule says", `
		ferry mirror run -r home -n alpine
		ferry mirror run -r home -n alpine --wait`,
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodPost, mirrorRules, name, nil, "run")
			if err == nil && wait {
				v, err = env.awaitMirror(ctx, c, name, v)
			}
			if err != nil {
				return err
			}
			return env.print(v, mirrorColumns())
		})
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the run is over; the exit code is 1 unless both sides match then")
	return cmd
}

// awaitMirror waits until the run that was asked for is over, which begins after
// one that goes on, and returns the rule as it is then; the error is why it is
// not in step.
func (e *Env) awaitMirror(ctx context.Context, c *client, name string, v any) (any, error) {
	v, err := e.await(ctx, v, []string{"Waiting", "Running", "BrokenOff"}, "status.", func(ctx context.Context) (any, error) {
		return c.resource(ctx, http.MethodGet, mirrorRules, name, nil)
	})
	if why := cell(member(v, "status.error")); err == nil && why != "" {
		err = withHint(errors.New(why), "see ferry mirror show -n %s", name)
	}
	return v, err
}
