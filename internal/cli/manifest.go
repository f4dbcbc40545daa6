package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/oci"
)

func newManifestCommand(env *Env) *cobra.Command {
	return group("manifest", "Manifests: the images in a repository",
		verb(env, "list-metadata", "Show the manifests of a repository", `
			ferry manifest list-metadata -r home -n factory/app
			ferry manifest list-metadata -r home -n factory/app --orderby time_desc --top 3 -o table
			ferry manifest list-metadata -r home -n factory/app --query "[?tags[0]==null].digest" -o tsv`,
			&manifestListMetadata{}, "name"),
		verb(env, "show", "Show a manifest as it is stored", `
			ferry manifest show -r home -n factory/app:1.0
			ferry manifest show -r home -n factory/app@sha256:9f86d0... --raw`,
			&manifestShow{}, "name"),
		verb(env, "show-metadata", "Show the attributes of a manifest", `
			ferry manifest show-metadata -r home -n factory/app:1.0`,
			&manifestShowMetadata{}, "name"),
		describe(verb(env, "delete", "Delete a manifest with all its tags", `
			ferry manifest delete -r home -n factory/app@sha256:9f86d0...
			ferry manifest delete -r home -n factory/app:1.0 --yes`,
			&manifestDelete{}, "name"), deleteLong),
	)
}

// A manifestTarget is the registry of a manifest command, and the image. As in the reference,
// --registry is the registry here, and --name the image.
type manifestTarget struct {
	target
	name string
}

func (t *manifestTarget) define(set *pflag.FlagSet, usage string) {
	t.target.define(set)
	textVar(set, &t.name, "name", "n", "NAME", usage)
	t.defineLogin(set)
}

const imageUsage = "the manifest: NAME:TAG, NAME@DIGEST, or NAME for its tag latest"

type manifestListMetadata struct {
	manifestTarget
	ordering
}

func (o *manifestListMetadata) define(set *pflag.FlagSet) {
	o.manifestTarget.define(set, "the repository")
	o.ordering.define(set, "manifests", "digest")
}

func (o *manifestListMetadata) run(ctx context.Context, env *Env, c *client) error {
	all, err := listManifests(ctx, c, o.name, o.ordering)
	if err != nil {
		return err
	}
	return showAll(env, all, manifestColumns())
}

type manifestShow struct {
	manifestTarget
	raw bool
}

func (o *manifestShow) define(set *pflag.FlagSet) {
	o.manifestTarget.define(set, imageUsage)
	set.BoolVar(&o.raw, "raw", false, "write the bytes of the manifest, without changes")
}

func (o *manifestShow) run(ctx context.Context, env *Env, c *client) error {
	repository, reference, err := splitImage(o.name)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/v2/" + repository + "/manifests/" + reference})
	if err != nil {
		return err
	}
	if o.raw {
		_, err = env.Stdout.Write(a.whole)
		return err
	}
	return env.print(a.body)
}

type manifestShowMetadata struct{ manifestTarget }

func (o *manifestShowMetadata) define(set *pflag.FlagSet) { o.manifestTarget.define(set, imageUsage) }

func (o *manifestShowMetadata) run(ctx context.Context, env *Env, c *client) error {
	repository, digest, err := splitImage(o.name)
	if err == nil && !oci.IsDigest(digest) {
		digest, err = digestOf(ctx, c, repository, digest)
	}
	if err != nil {
		return err
	}
	return showAttributes(ctx, env, c, call{method: http.MethodGet, path: manifestPath(repository, digest)}, "manifest")
}

type manifestDelete struct {
	manifestTarget
	confirmation
}

func (o *manifestDelete) define(set *pflag.FlagSet) {
	o.manifestTarget.define(set, imageUsage)
	o.confirmation.define(set)
}

func (o *manifestDelete) run(ctx context.Context, env *Env, c *client) error {
	return deleteImage(ctx, env, c, o.name, o.confirmation)
}
