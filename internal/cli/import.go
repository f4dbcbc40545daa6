package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

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

// awaitMirror waits until the rule's run is over, and returns the rule as it
// is then; the error is why it is not in step.
func (e *Env) awaitMirror(ctx context.Context, c *client, name string, v any) (any, error) {
	before := cell(member(v, "status.lastRunEndTime"))
	read := func(ctx context.Context) (any, error) {
		return c.resource(ctx, http.MethodGet, mirrorRules, name, nil)
	}
	// A run that was asked for begins a moment later.
	for cell(member(v, "status.state")) != "Running" && cell(member(v, "status.lastRunEndTime")) == before {
		if err := pauseFor(ctx, barEvery/2); err != nil {
			return nil, err
		}
		var err error
		if v, err = read(ctx); err != nil {
			return nil, err
		}
	}
	v, err := e.await(ctx, v, []string{"Running"}, "status.", read)
	if why := cell(member(v, "status.error")); err == nil && why != "" {
		err = withHint(errors.New(why), "see ferry mirror show -n %s", name)
	}
	return v, err
}

// await reads v again and again while its state is one of running, and lets
// somebody at a terminal see how far it is. prefix leads to the members.
func (e *Env) await(ctx context.Context, v any, running []string, prefix string, read func(context.Context) (any, error)) (any, error) {
	status := func() map[string]any {
		s := map[string]any{"bytesDone": member(v, prefix+"bytesDone"), "bytesTotal": member(v, prefix+"bytesTotal")}
		for _, state := range running {
			if cell(member(v, prefix+"state")) == state {
				s["state"] = "Syncing"
			}
		}
		return s
	}
	said := ""
	ask := func(ctx context.Context) (_ map[string]any, err error) {
		if v, err = read(ctx); err != nil {
			return nil, err
		}
		s := status()
		if why := cell(member(v, prefix+"error")); why != said && s["state"] != nil {
			if said = why; why != "" {
				fmt.Fprintf(e.Stderr, "waiting for the source: %s\n", why)
			}
		}
		return s, nil
	}
	if isTerminal(e.Stderr) {
		_, err := watchSync(ctx, e.Stderr, status(), ask)
		return v, err
	}
	for s := status(); s["state"] != nil; {
		if err := pauseFor(ctx, barEvery); err != nil {
			return nil, err
		}
		var err error
		if s, err = ask(ctx); err != nil {
			return nil, err
		}
	}
	return v, nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted; it goes on at the registry")
	}
}
