package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/oci"
)

func newRepositoryCommand(env *Env) *cobra.Command {
	return group("repository", "Repositories: the content of a registry",
		verb(env, "list", "List the repositories that you may see", `
			ferry repository list --name home
			ferry repository list -n home --query "[?starts_with(@, 'factory/')]" -o tsv`,
			&repositoryList{}),
		verb(env, "show", "Show the attributes of a repository, a tag or a manifest", `
			ferry repository show -n home --repository factory/app
			ferry repository show -n home --image factory/app:1.0
			ferry repository show -n home --image factory/app@sha256:9f86d0...`,
			&repositoryShow{}),
		verb(env, "show-tags", "Show the tags of a repository", `
			ferry repository show-tags -n home --repository factory/app
			ferry repository show-tags -n home --repository factory/app --orderby time_desc --top 3 --detail`,
			&repositoryShowTags{}, "repository"),
		newShowManifests(env),
		describe(verb(env, "update", "Lock or unlock a repository, a tag or a manifest", `
			ferry repository update -n home --image factory/app:1.0 --write-enabled false
			ferry repository update -n home --image factory/app:1.0 --delete-enabled false --write-enabled true
			ferry repository update -n home --repository factory/app --read-enabled false`,
			&repositoryUpdate{}), updateLong),
		newCoverageCommand(env),
		describe(verb(env, "untag", "Delete a tag; its manifest stays", `
			ferry repository untag -n home --image factory/app:1.0`,
			&repositoryUntag{}, "image"), untagLong),
		describe(verb(env, "delete", "Delete a repository, or an image with all its tags", `
			ferry repository delete -n home --repository factory/old
			ferry repository delete -n home --image factory/app:1.0 --yes
			ferry repository delete -n home --image factory/app@sha256:9f86d0... --yes`,
			&repositoryDelete{}), deleteLong),
		newPurgeCommand(env),
		newPurgeRuleCommand(env),
	)
}

// contentTarget is the registry of a repository command. Operators and tokens may run
// those. As in the reference, --name is the registry; --registry is the same.
type contentTarget struct{ target }

func (t *contentTarget) define(set *pflag.FlagSet) {
	t.flag = "--name/-n"
	textVar(set, &t.registry, "name", "n", "REGISTRY", registryUsage)
	textVar(set, &t.registry, "registry", "r", "REGISTRY", "the same as --name")
	t.defineLogin(set)
	ignored(set, "resource-group", "g")
}

// defineLogin defines the flags of a login for this command alone, such as that of a token.
func (t *target) defineLogin(set *pflag.FlagSet) {
	textVar(set, &t.user, "username", "u", "USER",
		"user or token (default $FERRY_USERNAME, or the user saved by ferry login)")
	textVar(set, &t.password, "password", "p", "PASSWORD",
		"its password (default $FERRY_PASSWORD, or the password saved by ferry login)")
}

type repositoryList struct {
	contentTarget
	top int
}

func (o *repositoryList) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	set.IntVar(&o.top, "top", 0, "show at most this many repositories (default all)")
}

func (o *repositoryList) run(ctx context.Context, env *Env, c *client) error {
	names, err := pages[string](ctx, c, "/v2/_catalog", url.Values{"n": {pageSize}}, "repositories", o.top)
	if err != nil {
		return err
	}
	return env.print(names.raw)
}

// An imageOrRepository is a repository, or one of its images.
type imageOrRepository struct {
	contentTarget
	repository, image string
}

func (o *imageOrRepository) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository")
	textVar(set, &o.image, "image", "t", "IMAGE", "the image: NAME:TAG, NAME@DIGEST, or NAME for its tag latest")
}

// check returns a usage error unless exactly one of the two is given.
func (o *imageOrRepository) check() error {
	if (o.repository == "") == (o.image == "") {
		return usagef("either --image or --repository must be provided, but not both")
	}
	return nil
}

// attributesPath returns the path of the attributes, and the member of the answer that has them; ""
// is the whole answer.
func (o *imageOrRepository) attributesPath() (path, member string, err error) {
	if err := o.check(); err != nil {
		return "", "", err
	}
	if o.image == "" {
		return "/acr/v1/" + o.repository, "", checkRepository(o.repository)
	}
	repository, reference, err := splitImage(o.image)
	if oci.IsDigest(reference) {
		return manifestPath(repository, reference), "manifest", err
	}
	return tagPath(repository, reference), "tag", err
}

func tagPath(repository, tag string) string { return "/acr/v1/" + repository + "/_tags/" + tag }

func manifestPath(repository, digest string) string {
	return "/acr/v1/" + repository + "/_manifests/" + digest
}

// showAttributes makes a call whose answer is attributes, and shows the member of the answer.
func showAttributes(ctx context.Context, env *Env, c *client, r call, member string) error {
	a, err := ask[map[string]json.RawMessage](ctx, c, r)
	if err != nil {
		return err
	}
	if member == "" {
		return env.print(a.raw)
	}
	return env.print(a.value[member])
}

type repositoryShow struct{ imageOrRepository }

func (o *repositoryShow) run(ctx context.Context, env *Env, c *client) error {
	path, member, err := o.attributesPath()
	if err != nil {
		return err
	}
	return showAttributes(ctx, env, c, call{method: http.MethodGet, path: path}, member)
}

type repositoryUpdate struct {
	imageOrRepository
	change attributeChange
}

// An attributeChange is a change of attributes; those that are nil stay as they are.
type attributeChange struct {
	DeleteEnabled *bool `json:"deleteEnabled,omitempty"`
	ListEnabled   *bool `json:"listEnabled,omitempty"`
	ReadEnabled   *bool `json:"readEnabled,omitempty"`
	WriteEnabled  *bool `json:"writeEnabled,omitempty"`
}

const updateLong = `
Lock or unlock a repository, a tag or a manifest. A tag and the manifest that it
names have separate locks; those of a repository hold for everything in it.

  --delete-enabled false  nobody can delete it
  --write-enabled false   nobody can delete it, move the tag, or push to the
                          repository
  --read-enabled false    nobody can pull it
  --list-enabled false    lists do not show it; who knows its name may pull it

Connected registries receive the locks with their next poll, and enforce them.
They receive locked content, too, so that unlocking it later needs no transfer.`

func (o *repositoryUpdate) define(set *pflag.FlagSet) {
	o.imageOrRepository.define(set)
	switchOption(set, &o.change.DeleteEnabled, "delete-enabled", "", "whether it may be deleted")
	switchOption(set, &o.change.ListEnabled, "list-enabled", "", "whether lists show it")
	switchOption(set, &o.change.ReadEnabled, "read-enabled", "", "whether it may be pulled")
	switchOption(set, &o.change.WriteEnabled, "write-enabled", "", "whether it may be written and deleted")
}

func (o *repositoryUpdate) run(ctx context.Context, env *Env, c *client) error {
	path, member, err := o.attributesPath()
	if err == nil && o.change == (attributeChange{}) {
		err = usagef("nothing to change: want one of --delete-enabled, --list-enabled, --read-enabled, --write-enabled")
	}
	if err != nil {
		return err
	}
	return showAttributes(ctx, env, c, call{method: http.MethodPatch, path: path, body: o.change}, member)
}

type repositoryUntag struct {
	contentTarget
	image string
}

const untagLong = `
Delete a tag. The manifest that it names stays, with all its layers, so this
frees no space. To delete the image, use ferry repository delete; to delete all
manifests without a tag, use ferry repository purge --untagged.`

func (o *repositoryUntag) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.image, "image", "t", "IMAGE", "the tag to delete: NAME:TAG, or NAME for its tag latest")
}

func (o *repositoryUntag) run(ctx context.Context, _ *Env, c *client) error {
	repository, tag, err := splitImage(o.image)
	if err == nil && oci.IsDigest(tag) {
		err = withHint(usagef("--image %s names a manifest, and not a tag", clip(o.image)),
			"ferry repository delete --image NAME@DIGEST deletes a manifest")
	}
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: http.MethodDelete, path: tagPath(repository, tag)})
	return err
}

// checkRepository returns a usage error for a malformed name, which could lead to another
// path of the API.
func checkRepository(name string) error { return malformed(oci.CheckRepository(name)) }

// malformed turns an error of the registry API into a usage error.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	return usageError{errors.New(oci.AsError(err).Message)}
}

// pageSize is the number of entries in one page, as in the reference.
const pageSize = "100"

// splitImage reads name[:tag] or name@digest.
func splitImage(image string) (repository, reference string, err error) {
	repository, reference, isDigest := strings.Cut(image, "@")
	if isDigest {
		_, err = oci.ParseDigest(reference)
	} else {
		var hasTag bool
		if repository, reference, hasTag = strings.Cut(image, ":"); !hasTag {
			reference = "latest"
		}
		err = oci.CheckTag(reference)
	}
	return repository, reference, malformed(cmp.Or(err, oci.CheckRepository(repository)))
}
