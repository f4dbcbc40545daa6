package cli

import (
	"context"
	"errors"
	"net/http"

	"github.com/spf13/cobra"
)

func importColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "SOURCE", path: "source"},
		{title: "STATE", path: "state"},
		{title: "DIGEST", path: "digest", show: shortDigest},
		{title: "ERROR", path: "error"},
	}
}

func newImportCommand(env *Env) *cobra.Command {
	var t *target
	var source, repository string
	var images *listFlag
	var login *sourceFlags
	var force, noWait bool
	cmd := verb("import", "Bring an image of another registry here, once", `
		ferry import -r home --source docker.io/library/alpine:3.20
		ferry import -r home --source ghcr.io/acme/app@sha256:0123... --image acme/app:1.0 --image acme/app:latest --force
		ferry import -r home --source registry.corp.example/base:1 --image base:1 --username bot --password-stdin < password`,
		func(cmd *cobra.Command) error {
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
			if !noWait {
				if v, err = env.awaitImport(cmd.Context(), c, v); err != nil {
					return err
				}
			}
			return env.print(v, importColumns())
		})
	cmd.Long = `Bring an image of another registry here, once, with all its platforms and
what refers to it, such as signatures.

An import that is broken off goes on from the same byte when it is made again.`
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return require(cmd, "source") }
	t = env.registryFlags(cmd)
	flags := cmd.Flags()
	textVar(flags, &source, "source", "", "IMAGE", "HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST; http:// before it is without TLS")
	images = listVar(flags, "image", "REPOSITORY:TAG...", "what it becomes here (default the source's repository and tag); repeatable")
	textVar(flags, &repository, "repository", "", "NAME", "copy it to this repository without a tag")
	flags.BoolVar(&force, "force", false, "move tags that exist here")
	flags.BoolVar(&noWait, "no-wait", false, "do not wait until it is here")
	login = defineSourceFlags(env, flags)
	return cmd
}

// awaitImport waits until the import is over, and returns it as it is then;
// the error is why it failed.
func (e *Env) awaitImport(ctx context.Context, c *client, v any) (any, error) {
	name := cell(member(v, "name"))
	v, err := e.await(ctx, v, []string{"Pending", "Running"}, "", func(ctx context.Context) (any, error) {
		return c.resource(ctx, http.MethodGet, "imports", name, nil)
	})
	if err == nil && cell(member(v, "state")) == "Failed" {
		err = withHint(errors.New(cell(member(v, "error"))), "run the same import again: it goes on from the same byte")
	}
	return v, err
}
