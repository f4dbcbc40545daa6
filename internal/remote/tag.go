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

// Limits on a list of tags.
const (
	tagPage = 1000 // tags on a page; the registry may send more or fewer
	maxTags = 200_000
)

// A TagList has the tags of a repository, as a registry lists them.
type TagList struct {
	Tags    []string // without duplicates, in the registry's order
	Invalid []string // examples of listed names that are not valid tags, shortened
}

// maxInvalid is how many invalid names are kept.
const maxInvalid = 10

// Tags returns all tags of repository. An incomplete list is an error, and so are more
// than 200,000 names.
func (r *Registry) Tags(ctx context.Context, repository string) (TagList, error) {
	var all TagList
	known := map[string]bool{}
	err := readPages(ctx, r, tagRequest(repository, tagPage), pagedList[string]{
		member: "tags", max: maxTags, elementSize: maxToken,
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
		return TagList{}, fmt.Errorf("list tags of %s: %w", repository, notFoundAs(err, oci.ErrNameUnknown))
	}
	return all, nil
}

// HasRepository reports whether the registry has repository: whether it lists its tags.
func (r *Registry) HasRepository(ctx context.Context, repository string) (bool, error) {
	resp, err := r.do(ctx, tagRequest(repository, 1))
	if errors.Is(notFoundAs(err, oci.ErrNameUnknown), oci.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for repository %s: %w", repository, err)
	}
	drain(resp.Body)
	return true, nil
}

// tagRequest is the request for the first page of a repository's tags, n at a time.
func tagRequest(repository string, n int) request {
	return request{
		method: http.MethodGet, repository: repository, path: "/tags/list", query: url.Values{"n": {strconv.Itoa(n)}},
	}
}
