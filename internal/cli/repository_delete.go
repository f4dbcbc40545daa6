package cli

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/oci"
	"ferry/internal/terminal"
)

const deleteLong = `
Delete a repository with everything in it, or an image. A deleted image loses
all its tags, also those that the command does not name; the question lists
them. Signatures and other manifests that refer to the image stay, and can be
pulled by digest. Garbage collection frees the space after its grace period.`

type repositoryDelete struct {
	imageOrRepository
	confirmation
}

func (o *repositoryDelete) define(set *pflag.FlagSet) {
	o.imageOrRepository.define(set)
	o.confirmation.define(set)
}

func (o *repositoryDelete) run(ctx context.Context, env *Env, c *client) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.image != "" {
		return deleteImage(ctx, env, c, o.image, o.confirmation)
	}
	if err := checkRepository(o.repository); err != nil {
		return err
	}
	path := "/acr/v1/" + o.repository
	if !o.yes {
		has, err := ask[struct{ TagCount, ManifestCount int }](ctx, c, call{method: http.MethodGet, path: path})
		if err != nil {
			return err
		}
		err = o.ask(env, "The repository has %s and %s. "+
			"Are you sure you want to delete the repository '%s' and all images under it?",
			counted(has.value.TagCount, "tag"), counted(has.value.ManifestCount, "manifest"), o.repository)
		if err != nil {
			return err
		}
	}
	a, err := c.do(ctx, call{method: http.MethodDelete, path: path})
	if err != nil || len(a.body) == 0 {
		return err
	}
	return env.print(a.body)
}

// deleteImage deletes a manifest by its digest, with all of its tags. The question lists
// those, and what refers to the manifest.
func deleteImage(ctx context.Context, env *Env, c *client, image string, confirm confirmation) error {
	repository, digest, err := splitImage(image)
	if err != nil {
		return err
	}
	if !oci.IsDigest(digest) {
		if digest, err = digestOf(ctx, c, repository, digest); err != nil {
			return err
		}
	}
	if !confirm.yes {
		if err := confirmDelete(ctx, env, c, repository, digest, confirm); err != nil {
			return err
		}
	}
	_, err = c.do(ctx, call{method: http.MethodDelete, path: "/v2/" + repository + "/manifests/" + digest})
	return err
}

// digestOf returns the digest of the manifest that a tag names.
func digestOf(ctx context.Context, c *client, repository, tagName string) (string, error) {
	named, err := ask[struct{ Tag tag }](ctx, c, call{method: http.MethodGet, path: tagPath(repository, tagName)})
	return named.value.Tag.Digest, err
}

// confirmDelete asks whether a manifest may be deleted.
func confirmDelete(ctx context.Context, env *Env, c *client, repository, digest string, confirm confirmation) error {
	found, err := ask[struct{ Manifest struct{ Tags []string } }](ctx, c,
		call{method: http.MethodGet, path: manifestPath(repository, digest)})
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
	referrers, err := ask[struct {
		Manifests []struct{ ArtifactType, Digest string }
	}](ctx, c, call{method: http.MethodGet, path: "/v2/" + repository + "/referrers/" + digest})
	if err != nil {
		return err
	}
	stays := ""
	if n := len(referrers.value.Manifests); n > 0 {
		stays = " These refer to it, and stay:"
		for i, r := range referrers.value.Manifests[:min(n, maxShownReferrers)] {
			if i > 0 {
				stays += ","
			}
			stays += fmt.Sprintf(" %s (%s)", r.Digest, r.ArtifactType)
		}
		if n > maxShownReferrers {
			stays += fmt.Sprintf(" and %d more", n-maxShownReferrers)
		}
		stays += "."
	}
	return confirm.ask(env, "This operation will delete the manifest '%s' and all the following images: %s.%s "+
		"Are you sure you want to continue?", digest, strings.Join(images, ", "), terminal.Printable(stays))
}

// maxShownReferrers is how many referrers a question names.
const maxShownReferrers = 5
