package remote

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"ferry/internal/oci"
)

// Limits on a listing of tags. A registry decides how large its pages are.
const (
	tagPage    = 1000
	maxTags    = 200_000
	maxTagPage = 32 << 20 // bytes
)

// Tags returns the tags of repository, in the registry's order. More than
// 200,000 are an error.
func (r *Registry) Tags(ctx context.Context, repository string) ([]string, error) {
	var all []string
	next := url.Values{"n": {strconv.Itoa(tagPage)}}
	for next != nil {
		page, following, err := r.tagPage(ctx, repository, next)
		if err != nil {
			return nil, fmt.Errorf("list tags of %s: %w", repository, err)
		}
		if all = append(all, page...); len(all) > maxTags {
			return nil, fmt.Errorf("list tags of %s: there are more than %d", repository, maxTags)
		}
		if following != nil && following.Encode() == next.Encode() {
			return nil, fmt.Errorf("list tags of %s: a page is followed by itself", repository)
		}
		next = following
	}
	return all, nil
}

// HasRepository reports whether the registry has repository, by whether it
// lists its tags.
func (r *Registry) HasRepository(ctx context.Context, repository string) (bool, error) {
	_, _, err := r.tagPage(ctx, repository, url.Values{"n": {"1"}})
	if errors.Is(err, oci.ErrNameUnknown) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for repository %s: %w", repository, err)
	}
	return true, nil
}

func (r *Registry) tagPage(
	ctx context.Context, repository string, query url.Values,
) (page []string, next url.Values, err error) {
	resp, err := r.do(ctx, request{
		method: http.MethodGet, repository: repository, path: "/tags/list", query: query,
	})
	if err != nil {
		return nil, nil, unknown(err, oci.ErrNameUnknown)
	}
	defer resp.Body.Close()
	var body struct {
		Tags []string `json:"tags"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxTagPage)).Decode(&body); err != nil {
		return nil, nil, err
	}
	if len(body.Tags) == 0 {
		return nil, nil, nil // a page after it has nothing either, whatever the registry says
	}
	return body.Tags, nextPage(resp.Header.Get("Link")), nil
}

var linkNext = regexp.MustCompile(`<([^>]*)>\s*;\s*rel="?next"?`)

// nextPage returns the query of the page that a Link header (RFC 8288) says
// comes next; nil is none. The rest of the URL is not followed: it is another
// page of the same listing.
func nextPage(link string) url.Values {
	found := linkNext.FindStringSubmatch(link)
	if found == nil {
		return nil
	}
	u, err := url.Parse(found[1])
	if err != nil || u.RawQuery == "" {
		return nil
	}
	return u.Query()
}
