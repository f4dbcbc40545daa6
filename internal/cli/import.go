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
	{title: "SOURCE", text: func(i api.Import) string { return i.Source }, rank: 2, cut: true},
	{title: "IMAGES", text: func(i api.Import) string { return strings.Join(i.Images, ", ") }},
	{title: "STATE", text: func(i api.Import) string { return i.State }},
	{title: "DIGEST", text: func(i api.Import) string { return shortDigest(value(i.Digest)) }, rank: 3},
	{title: "DONE", text: func(i api.Import) string { return doneText(i.BytesDone, i.BytesTotal) }, rank: 4},
	{title: "ERROR", text: func(i api.Import) string { return value(i.Error) }, cut: true},
}}

func newImportCommand(env *Env) *cobra.Command {
	cmd := verb(env, "import", "Copy an image from another registry to this one, once", `
		ferry import -r home --source docker.io/library/alpine:3.20
		ferry import -r home --source ghcr.io/acme/app@sha256:0123... \
		--image acme/app:1.0 --image acme/app:latest --force
		ferry import -r home --source registry.corp.example/base:1 --image base:1 \
		--username bot --password-stdin < password
		ferry import -n home -r other --source factory/app:1.0 --username bot --password-stdin < password
		ferry import -r home --source http://registry.local:5000/app:2 --image app:2 --no-wait`,
		&importCreate{}, "source")
	cmd.Long = `Copy an image from another registry to this one, once, with all its platforms
and its referrers, such as signatures.

--registry is the registry that gets the image. The registry that it is copied
from is the first part of --source. As in az acr import, --name/-n can be the
registry that gets the image, and --registry the one that it is copied from;
then --source begins with the repository. A login that is saved for the source
is not used: give --username.

An import goes on in the registry when this command is interrupted, and from
the same byte when the registry is started again. After --no-wait, ferry import
list and ferry import show report the progress and the result; ferry import
cancel ends it. If an import failed, run the same command again: it continues
from the same byte.`
	cmd.AddCommand(
		verb(env, "list", "List the latest imports, with their progress or result",
			"ferry import list -r home -o table", &listOptions[api.Import]{resource: imports}),
		verb(env, "show", "Show the progress or the result of an import",
			"ferry import show -r home -n 0123456789abcdef", &showOptions[api.Import]{resource: imports}, "name"),
		verb(env, "cancel", "Cancel an import that has not ended",
			"ferry import cancel -r home -n 0123456789abcdef", &importCancel{}, "name"),
	)
	return cmd
}

type importCreate struct {
	target
	sourceLogin
	alias  string // another flag for the registry
	post   api.ImportPost
	noWait bool
}

func (o *importCreate) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.alias, "name", "n", "REGISTRY", "the registry that gets the image, if --registry names its source")
	textVar(set, &o.post.Source, "source", "", "IMAGE",
		"HOST/REPOSITORY[:TAG][@DIGEST]. A digest takes precedence over a tag; http:// before the host means no TLS. "+
			"Without HOST if --name and --registry are both given")
	namesVar(set, &o.post.Images, "image", "t", "REPOSITORY:TAG...",
		"the image's name in this registry (default the repository and tag of --source); repeatable. "+
			"A source with a digest needs --image or --repository")
	textVar(set, &o.post.Repository, "repository", "", "NAME", "copy it to this repository, without a tag")
	set.BoolVar(&o.post.Force, "force", false, "move tags that exist already")
	set.BoolVar(&o.noWait, "no-wait", false, "do not wait for the end of the import; see ferry import show")
	o.sourceLogin.define(set)
}

// client returns a client of the registry that gets the image: --name, or --registry if there is no
// --name. With both, --registry is the source, as in the reference.
func (o *importCreate) client(env *Env) (*client, error) {
	if o.alias != "" && o.registry != "" {
		if err := o.addSource(env); err != nil {
			return nil, err
		}
	}
	o.registry = cmp.Or(o.alias, o.registry)
	return o.target.client(env)
}

// addSource puts the address of the registry in --registry before the repository in --source. Its saved
// login is not used: the registry that gets the image would learn an operator's password.
func (o *importCreate) addSource(env *Env) error {
	if hasHost(o.post.Source) {
		if o.alias == o.registry {
			return nil // both name the registry that gets the image
		}
		return withHint(usagef("--source names a registry, and --registry/-r names another source"),
			"leave out the host in --source, or --registry")
	}
	saved, err := env.loadLogins()
	if err != nil {
		return err
	}
	from, err := saved.find(o.registry)
	if err != nil {
		return err
	}
	address, err := parseAddress(from.URL)
	if err != nil {
		return err
	}
	host := address.Host + address.Path
	if address.Scheme == "http" {
		host = "http://" + host
	}
	o.post.Source = host + "/" + o.post.Source
	return nil
}

// hasHost reports whether an image begins with the address of a registry, as Docker decides it.
func hasHost(image string) bool {
	first, _, more := strings.Cut(image, "/")
	return strings.Contains(image, "://") || more && (strings.ContainsAny(first, ".:") || first == "localhost")
}

func (o *importCreate) run(ctx context.Context, env *Env, c *client) error {
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
		fmt.Fprintf(env.Stderr, "the registry continues the import; see ferry import show -n %s\n",
			terminal.Printable(name))
		return show(env, i, imports.columns)
	}
	i, err = await(ctx, env, i, importProgress, func(ctx context.Context) (result[api.Import], error) {
		return get[api.Import](ctx, c, imports.kind, name)
	})
	switch {
	case errors.Is(err, errInterrupted):
		return withHint(err, "see ferry import show -n %s", name)
	case err != nil:
		return err
	case i.value.State == api.Cancelled:
		return errors.New("an operator cancelled the import")
	case i.value.State == api.Failed:
		return withHint(errors.New(value(i.value.Error)), "%s", value(i.value.Hint))
	}
	printSourceWarnings(env, i.value.Warnings)
	return show(env, i, imports.columns)
}

type importCancel struct{ named }

func (o *importCancel) run(ctx context.Context, env *Env, c *client) error {
	i, err := write[api.Import](ctx, c, http.MethodPost, nil, imports.kind, o.name, "cancel")
	if err != nil {
		return err
	}
	return show(env, i, imports.columns)
}

// importProgress returns the progress of an import.
func importProgress(i api.Import) progress {
	return progressOf(i.State, i.Error, i.ByteProgress)
}
