package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
)

func importColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "SOURCE", path: "source"},
		{title: "IMAGES", path: "images", show: listed},
		{title: "STATE", path: "state"},
		{title: "DIGEST", path: "digest", show: shortDigest},
		{title: "DONE", show: doneOf},
		{title: "ERROR", path: "error"},
	}
}

// listed is a column's value for a list of names.
func listed(v any) string {
	all, _ := v.([]any)
	var names []string
	for _, name := range all {
		names = append(names, cell(name))
	}
	return strings.Join(names, ", ")
}

func newImportCommand(env *Env) *cobra.Command {
	var t *target
	var alias, source, repository string
	var images *listFlag
	var login *sourceFlags
	var force, noWait bool
	cmd := verb("import", "Bring an image of another registry here, once", `
		ferry import -r home --source docker.io/library/alpine:3.20
		ferry import -r home --source ghcr.io/acme/app@sha256:0123... --image acme/app:1.0 --image acme/app:latest --force
		ferry import -r home --source registry.corp.example/base:1 --image base:1 --username bot --password-stdin < password
		ferry import -r home --source http://registry.local:5000/app:2 --image app:2 --no-wait`,
		func(cmd *cobra.Command) error {
			if err := t.alsoNamed(alias); err != nil {
				return err
			}
			c, err := t.client()
			if err != nil {
				return err
			}
			body, err := login.changes()
			if err != nil {
				return err
			}
			body["source"], body["force"], body["images"] = source, force, images.values()
			if repository != "" {
				body["repository"] = repository
			}
			a, err := c.do(cmd.Context(), call{method: http.MethodPost, path: apiRoot + "imports", body: body})
			if err != nil {
				return err
			}
			v := a.value
			if noWait {
				fmt.Fprintf(env.Stderr, "it goes on at the registry; ferry import show -n %s says how\n", printable(cell(member(v, "name"))))
			} else if v, err = env.awaitImport(cmd.Context(), c, v); err != nil {
				return err
			}
			return env.print(v, importColumns())
		})
	cmd.Long = `Bring an image of another registry here, once, with all its platforms and
what refers to it, such as signatures.

As for every command, --registry is the registry that the command is for: the
one that the image comes to. What it comes from stands before the repository
in --source. As in az acr import, --name/-n is the registry that it comes to,
too.

An import that is broken off goes on from the same byte when it is made again.
With --no-wait, ferry import list and ferry import show say how it goes, and
how it ended.`
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return require(cmd, "source") }
	t = env.registryFlags(cmd)
	flags := cmd.Flags()
	textVar(flags, &alias, "name", "n", "REGISTRY", "the same as --registry")
	flags.Lookup("name").Hidden = true
	textVar(flags, &source, "source", "", "IMAGE", "HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST; http:// before it is without TLS")
	images = listVarP(flags, "image", "t", "REPOSITORY:TAG...", "what it becomes here (default the source's repository and tag; a digest needs it, or --repository); repeatable")
	textVar(flags, &repository, "repository", "", "NAME", "copy it to this repository without a tag")
	flags.BoolVar(&force, "force", false, "move tags that exist here")
	flags.BoolVar(&noWait, "no-wait", false, "do not wait until it is here; see ferry import show")
	login = defineSourceFlags(env, flags)
	cmd.AddCommand(newImportListCommand(env), newImportShowCommand(env))
	return cmd
}

func newImportListCommand(env *Env) *cobra.Command {
	var t *target
	cmd := verb("list", "List the latest imports, and how they go or ended", "ferry import list -r home -o table",
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			v, err := c.list(cmd.Context(), "imports", nil)
			if err != nil {
				return err
			}
			return env.print(v, importColumns())
		})
	t = env.registryFlags(cmd)
	return cmd
}

func newImportShowCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "show", "Show how an import goes, or ended", "ferry import show -r home -n 0123456789abcdef",
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, "imports", name, nil)
			if err != nil {
				return err
			}
			return env.print(v, importColumns())
		})
}

// awaitImport waits until the import is over, and returns it as it is then;
// the error is why it failed.
func (e *Env) awaitImport(ctx context.Context, c *client, v any) (any, error) {
	name := cell(member(v, "name"))
	v, err := e.await(ctx, v, []string{"Pending", "Running"}, "", func(ctx context.Context) (any, error) {
		return c.resource(ctx, http.MethodGet, "imports", name, nil)
	})
	if errors.Is(err, errInterrupted) {
		return v, withHint(err, "ferry import show -n %s says how", name)
	}
	if err == nil && cell(member(v, "state")) == "Failed" {
		err = withHint(errors.New(cell(member(v, "error"))), "%s", cell(member(v, "hint")))
	}
	return v, err
}
