package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"ferry/internal/oci"
)

// Limits on a listing of tags.
const (
	tagPage = 1000 // tags, which the registry may ignore
	maxTags = 200_000
)

// A TagList is what a registry lists as the tags of a repository.
type TagList struct {
	Tags    []string // each once, in the registry's order
	Invalid []string // some names that are listed and are no tags, shortened
}

// maxInvalid is how many names that are no tags are kept.
const maxInvalid = 10

// Tags returns the tags of repository. The listing is whole, or the error says
// why it is not. More than 200,000 names are an error.
func (r *Registry) Tags(ctx context.Context, repository string) (TagList, error) {
	var all TagList
	known := map[string]bool{}
	err := readPages(ctx, r, tagRequest(repository, tagPage), list[string]{
		member: "tags", most: maxTags, element: token,
		add: func(tag string) bool {
			if oci.CheckTag(tag) != nil {
				if len(all.Invalid) < maxInvalid {
					all.Invalid = append(all.Invalid, printable(tag))
				}
				return true
			}
			if known[tag] {
				return false
			}
			known[tag] = true
			all.Tags = append(all.Tags, tag)
			return true
		},
	})
	if err != nil {
		return TagList{}, fmt.Errorf("list tags of %s: %w", repository, unknown(err, oci.ErrNameUnknown))
	}
	return all, nil
}

// HasRepository reports whether the registry has repository, by whether it
// lists its tags.
func (r *Registry) HasRepository(ctx context.Context, repository string) (bool, error) {
	resp, err := r.do(ctx, tagRequest(repository, 1))
	if errors.Is(unknown(err, oci.ErrNameUnknown), oci.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for repository %s: %w", repository, err)
	}
	drain(resp.Body)
	return true, nil
}

// tagRequest asks for the first page of a repository's tags.
func tagRequest(repository string, n int) request {
	return request{
		method: http.MethodGet, repository: repository, path: "/tags/list", query: url.Values{"n": {strconv.Itoa(n)}},
	}
}
