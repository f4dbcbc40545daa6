package cli

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/oci"
)

type repositoryDelete struct {
	contentTarget
	confirmation
	repository, image string
}

func (o *repositoryDelete) define(set *pflag.FlagSet) {
	o.contentTarget.define(set)
	textVar(set, &o.repository, "repository", "", "NAME", "the repository to delete")
	textVar(set, &o.image, "image", "t", "IMAGE", "the image to delete, as name:tag or name@digest")
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

// deleteImage deletes a manifest, by its digest, with all the tags that name
// it, which the question lists.
func (o *repositoryDelete) deleteImage(ctx context.Context, env *Env, c *client) error {
	repository, digest, err := splitImage(o.image)
	if err != nil {
		return err
	}
	if !oci.IsDigest(digest) {
		named, err := ask[struct {
			Tag tag `json:"tag"`
		}](ctx, c, call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_tags/" + digest})
		if err != nil {
			return err
		}
		digest = named.value.Tag.Digest
	}
	found, err := ask[struct {
		Manifest struct {
			Tags []string `json:"tags"`
		} `json:"manifest"`
	}](ctx, c, call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_manifests/" + digest})
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
