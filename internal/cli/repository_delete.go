package cli

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"ferry/internal/oci"
)

func newRepositoryDeleteCommand(env *Env) *cobra.Command {
	var t *target
	var repository, image string
	var confirm *confirmation
	cmd := verb("delete", "Delete a repository, or an image with all its tags", `
		ferry repository delete -n home --repository factory/old
		ferry repository delete -n home --image factory/app:1.0 --yes
		ferry repository delete -n home --image factory/app@sha256:9f86d0... --yes`,
		func(cmd *cobra.Command) error {
			if (repository == "") == (image == "") {
				return usagef("either --image or --repository must be provided, but not both")
			}
			c, err := t.client()
			if err != nil {
				return err
			}
			if image != "" {
				return deleteImage(cmd.Context(), c, image, confirm)
			}
			if err := checkRepository(repository); err != nil {
				return err
			}
			if err := confirm.ask("Are you sure you want to delete the repository '%s' and all images under it?", repository); err != nil {
				return err
			}
			a, err := c.do(cmd.Context(), call{method: http.MethodDelete, path: "/acr/v1/" + repository})
			if err != nil || a.value == nil {
				return err
			}
			return env.print(a.value, nil)
		})
	t = repositoryFlags(env, cmd)
	textVar(cmd.Flags(), &repository, "repository", "", "NAME", "the repository to delete")
	textVar(cmd.Flags(), &image, "image", "t", "IMAGE", "the image to delete, as name:tag or name@digest")
	confirm = env.confirmation(cmd.Flags())
	return cmd
}

// deleteImage deletes a manifest, by its digest, with all the tags that name
// it, which the question lists.
func deleteImage(ctx context.Context, c *client, image string, confirm *confirmation) error {
	repository, reference, err := splitImage(image)
	if err != nil {
		return err
	}
	digest := reference
	if !oci.IsDigest(reference) {
		a, err := c.do(ctx, call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_tags/" + reference})
		if err != nil {
			return err
		}
		digest = cell(member(a.value, "tag.digest"))
	}
	a, err := c.do(ctx, call{method: http.MethodGet, path: "/acr/v1/" + repository + "/_manifests/" + digest})
	if err != nil {
		return err
	}
	images := []string{}
	tags, _ := member(a.value, "manifest.tags").([]any)
	for _, tag := range tags {
		images = append(images, "'"+repository+":"+cell(tag)+"'")
	}
	slices.Sort(images)
	if len(images) == 0 {
		images = []string{"none, it has no tag"}
	}
	err = confirm.ask("This operation will delete the manifest '%s' and all the following images: %s. Are you sure you want to continue?", digest, strings.Join(images, ", "))
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
		if _, err := oci.ParseDigest(reference); err != nil {
			return "", "", usageError{errorText(oci.AsError(err).Message)}
		}
	} else {
		var hasTag bool
		if repository, reference, hasTag = strings.Cut(image, ":"); !hasTag {
			reference = "latest"
		}
		if err := oci.CheckTag(reference); err != nil {
			return "", "", usageError{errorText(oci.AsError(err).Message)}
		}
	}
	return repository, reference, checkRepository(repository)
}
