package cli

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

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
		verb(env, "show-tags", "Show the tags of a repository", `
			ferry repository show-tags -n home --repository factory/app
			ferry repository show-tags -n home --repository factory/app --orderby time_desc --top 3 --detail`,
			&repositoryShowTags{}, "repository"),
		verb(env, "delete", "Delete a repository, or an image with all its tags", `
			ferry repository delete -n home --repository factory/old
			ferry repository delete -n home --image factory/app:1.0 --yes
			ferry repository delete -n home --image factory/app@sha256:9f86d0... --yes`,
			&repositoryDelete{}),
	)
}

// contentTarget is the registry of a repository command. Operators and tokens may run
// those. As in the reference, --name is the registry; --registry is the same.
type contentTarget struct{ target }

func (t *contentTarget) define(set *pflag.FlagSet) {
	t.flag = "--name/-n"
	textVar(set, &t.registry, "name", "n", "REGISTRY", registryUsage)
	textVar(set, &t.registry, "registry", "r", "REGISTRY", "the same as --name")
	textVar(set, &t.user, "username", "u", "USER",
		"user or token (default $FERRY_USERNAME, or the user saved by ferry login)")
	textVar(set, &t.password, "password", "p", "PASSWORD",
		"its password (default $FERRY_PASSWORD, or the password saved by ferry login)")
	ignored(set, "resource-group", "g")
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

type repositoryShowTags struct {
	contentTarget
	repository string
	order      string
	top        int
	detail     bool
}

func (o *repositoryShowTags) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository")
	choiceVar(set, &o.order, "orderby", "", "",
		"order by the time of the last update (default by name)", "time_asc", "time_desc")
	set.IntVar(&o.top, "top", 0, "show at most this many tags (default all)")
	set.BoolVar(&o.detail, "detail", false, "also show digests, times and locks")
}

// A tag is a tag in the form of the API below /acr/v1/.
type tag struct {
	Name           string    `json:"name"`
	Digest         string    `json:"digest"`
	CreatedTime    time.Time `json:"createdTime"`
	LastUpdateTime time.Time `json:"lastUpdateTime"`
}

func (o *repositoryShowTags) run(ctx context.Context, env *Env, c *client) error {
	if err := checkRepository(o.repository); err != nil {
		return err
	}
	query := url.Values{"n": {pageSize}}
	if o.order != "" {
		query.Set("orderby", strings.ReplaceAll(o.order, "_", ""))
	}
	all, err := pages[tag](ctx, c, "/acr/v1/"+o.repository+"/_tags", query, "tags", o.top)
	if err != nil {
		return err
	}
	if !o.detail {
		names := []string{}
		for _, t := range all.value {
			names = append(names, t.Name)
		}
		return env.print(names)
	}
	return showAll(env, all, []column[tag]{
		{title: "NAME", text: func(t tag) string { return t.Name }},
		{title: "DIGEST", text: func(t tag) string { return t.Digest }},
		{title: "CREATED", text: func(t tag) string { return timeText(&t.CreatedTime) }},
		{title: "LAST UPDATE", text: func(t tag) string { return timeText(&t.LastUpdateTime) }},
	})
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

type repositoryDelete struct {
	contentTarget
	confirmation
	repository, image string
}

func (o *repositoryDelete) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository to delete")
	textVar(set, &o.image, "image", "t", "IMAGE",
		"the image to delete, NAME:TAG or NAME@DIGEST; all tags of the same image are deleted")
	o.confirmation.define(set)
}

func (o *repositoryDelete) run(ctx context.Context, env *Env, c *client) error {
	if (o.repository == "") == (o.image == "") {
		return usagef("either --image or --repository must be provided, but not both")
	}
	if o.image != "" {
		return o.deleteImage(ctx, env, c)
	}
	if err := checkRepository(o.repository); err != nil {
		return err
	}
	err := o.ask(env, "Are you sure you want to delete the repository '%s' and all images under it?", o.repository)
	if err != nil {
		return err
	}
	a, err := c.do(ctx, call{method: http.MethodDelete, path: "/acr/v1/" + o.repository})
	if err != nil || len(a.body) == 0 {
		return err
	}
	return env.print(a.body)
}

// deleteImage deletes a manifest by its digest, with all of its tags. The question lists
// those.
func (o *repositoryDelete) deleteImage(ctx context.Context, env *Env, c *client) error {
	repository, digest, err := splitImage(o.image)
	if err != nil {
		return err
	}
	if !oci.IsDigest(digest) {
		named, err := ask[struct{ Tag tag }](ctx, c,
			call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_tags/" + digest})
		if err != nil {
			return err
		}
		digest = named.value.Tag.Digest
	}
	found, err := ask[struct{ Manifest struct{ Tags []string } }](ctx, c,
		call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_manifests/" + digest})
	if err != nil {
		return err
	}
	images := []string{}
	for _, tag := range found.value.Manifest.Tags {
		images = append(images, "'"+repository+":"+tag+"'")
	}
	slices.Sort(images)
	if len(images) == 0 {
		images = []string{"none, it has no tag"}
	}
	err = o.ask(env, "This operation will delete the manifest '%s' and all the following images: %s. "+
		"Are you sure you want to continue?", digest, strings.Join(images, ", "))
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: http.MethodDelete, path: "/v2/" + repository + "/manifests/" + digest})
	return err
}

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
