package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

var imports = resource[api.Import]{"imports", []column[api.Import]{
	{title: "NAME", text: func(i api.Import) string { return i.Name }},
	{title: "SOURCE", text: func(i api.Import) string { return i.Source }},
	{title: "IMAGES", text: func(i api.Import) string { return strings.Join(i.Images, ", ") }},
	{title: "STATE", text: func(i api.Import) string { return i.State }},
	{title: "DIGEST", text: func(i api.Import) string { return shortDigest(value(i.Digest)) }},
	{title: "DONE", text: func(i api.Import) string { return doneOf(i.BytesDone, i.BytesTotal) }},
	{title: "ERROR", text: func(i api.Import) string { return value(i.Error) }},
}}

func newImportCommand(env *Env) *cobra.Command {
	cmd := verb(env, "import", "Bring an image of another registry here, once", `
		ferry import -r home --source docker.io/library/alpine:3.20
		ferry import -r home --source ghcr.io/acme/app@sha256:0123... --image acme/app:1.0 --image acme/app:latest --force
		ferry import -r home --source registry.corp.example/base:1 --image base:1 --username bot --password-stdin < password
		ferry import -r home --source http://registry.local:5000/app:2 --image app:2 --no-wait`,
		&importNew{}, "source")
	cmd.Long = `Bring an image of another registry here, once, with all its platforms and
what refers to it, such as signatures.

As for every command, --registry is the registry that the command is for: the
one that the image comes to. What it comes from stands before the repository
in --source. As in az acr import, --name/-n is the registry that it comes to,
too.

An import that is broken off goes on from the same byte when it is made again.
With --no-wait, ferry import list and ferry import show say how it goes, and
how it ended.`
	cmd.AddCommand(
		verb(env, "list", "List the latest imports, and how they go or ended", "ferry import list -r home -o table",
			&listOptions[api.Import]{resource: imports}),
		verb(env, "show", "Show how an import goes, or ended", "ferry import show -r home -n 0123456789abcdef",
			&showOptions[api.Import]{resource: imports}, "name"),
	)
	return cmd
}

type importNew struct {
	target
	sourceLogin
	alias  string // another flag for the registry
	post   api.ImportPost
	noWait bool
}

func (o *importNew) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.alias, "name", "n", "REGISTRY", "the same as --registry")
	set.Lookup("name").Hidden = true
	textVar(set, &o.post.Source, "source", "", "IMAGE",
		"HOST/REPOSITORY[:TAG][@DIGEST], of which the digest counts; http:// before it is without TLS")
	namesVar(set, &o.post.Images, "image", "t", "REPOSITORY:TAG...",
		"what it becomes here (default the source's repository and tag; a digest needs it, or --repository); repeatable")
	textVar(set, &o.post.Repository, "repository", "", "NAME", "copy it to this repository without a tag")
	set.BoolVar(&o.post.Force, "force", false, "move tags that exist here")
	set.BoolVar(&o.noWait, "no-wait", false, "do not wait until it is here; see ferry import show")
	o.sourceLogin.define(set)
}

// client returns a client of the registry that either flag names. Both at once
// are two registries to whoever wrote them, as --name and --registry of az acr
// import, where the second is the source's.
func (o *importNew) client(env *Env) (*client, error) {
	if o.alias != "" && o.registry != "" && o.alias != o.registry {
		return nil, withHint(usagef("--name/-n and --registry/-r are both the registry that the image comes to"),
			"name the registry that it comes from in --source: HOST/REPOSITORY:TAG")
	}
	o.registry = cmp.Or(o.registry, o.alias)
	return o.target.client(env)
}

func (o *importNew) run(ctx context.Context, env *Env, c *client) error {
	if err := o.read(env); err != nil {
		return err
	}
	o.post.Username, o.post.Password = value(o.username), value(o.sourceLogin.password)
	o.post.CertificateAuthority = value(o.certificates)
	i, err := ask[api.Import](ctx, c, call{method: http.MethodPost, path: api.Root + "/" + imports.kind, body: o.post})
	if err != nil {
		return err
	}
	name := i.value.Name
	if o.noWait {
		fmt.Fprintf(env.Stderr, "it goes on at the registry; ferry import show -n %s says how\n",
			terminal.Printable(name))
		return show(env, i, imports.columns)
	}
	i, err = await(ctx, env, i, importProgress, func(ctx context.Context) (result[api.Import], error) {
		return get[api.Import](ctx, c, imports.kind, name)
	})
	switch {
	case errors.Is(err, errInterrupted):
		return withHint(err, "ferry import show -n %s says how", name)
	case err != nil:
		return err
	case i.value.State == api.Failed:
		return withHint(errors.New(value(i.value.Error)), "%s", value(i.value.Hint))
	}
	warnOfSource(env, i.value.Warnings)
	return show(env, i, imports.columns)
}

// importProgress is how far an import is.
func importProgress(i api.Import) progress {
	return progressOf(i.State, i.Error, i.ByteProgress)
}
