package registry

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// The number of entries on a page, unless the parameter n asks for fewer. The catalog and lists with
// attributes have pages of defaultPageSize, tags and referrers of maxPageSize.
const (
	defaultPageSize = 100
	maxPageSize     = 1000
)

// maxScan is how many repositories one catalog request scans. A client that may read
// only a few of many gets short pages with a link to the next.
const maxScan = 50_000

// maxReferrers is the maximum size of a page of referrers, in bytes. Clients read no
// more than [oci.MaxManifestSize] of one.
const maxReferrers = oci.MaxManifestSize - 1024

// referrerBatch is how many referrers are read from the database at a time.
const referrerBatch = 100

// A page is the part of a list that a client asks for: up to n entries after last.
type page struct {
	n    int
	last string
}

func (q *request) page(defaultN int) (page, error) {
	query := q.URL.Query()
	p := page{n: defaultN, last: query.Get("last")}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return page{}, &oci.Error{Code: "PAGINATION_NUMBER_INVALID", Message: "n is not a number of entries",
				Status: http.StatusBadRequest}
		}
		p.n = min(n, maxPageSize)
	}
	return p, nil
}

// setNextLink sets the Link header (RFC 8288) to the page after last.
func (p page) setNextLink(w http.ResponseWriter, q *request, last string) {
	query := q.URL.Query()
	query.Set("n", strconv.Itoa(p.n))
	query.Set("last", last)
	u := url.URL{Path: q.URL.Path, RawQuery: query.Encode()}
	w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// listTags lists a repository's tags by name.
func (g *Registry) listTags(w http.ResponseWriter, q *request) error {
	p, err := q.page(maxPageSize)
	if err != nil {
		return err
	}
	names, err := g.storage.TagNames(q.Context(), q.repository, p.last, p.n+1)
	if err != nil {
		return err
	}
	if len(names) > p.n && p.n > 0 {
		p.setNextLink(w, q, names[p.n-1])
	}
	names = append([]string{}, names[:min(len(names), p.n)]...) // an empty list, not null
	return writeJSON(w, map[string]any{"name": q.path, "tags": names})
}

// tags returns page p of the tags in order o, and sets the Link header if there are more
// pages.
func (g *Registry) tags(w http.ResponseWriter, q *request, p page, o storage.TagOrder) ([]storage.Tag, error) {
	tags, err := g.storage.Tags(q.Context(), q.repository, o, p.last, p.n+1)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return nil, errAttributes.With("the tag in last is not in this list any more: start again without last")
	}
	if len(tags) > p.n && p.n > 0 {
		p.setNextLink(w, q, tags[p.n-1].Name)
	}
	return tags[:min(len(tags), p.n)], err
}

// catalog lists the repositories that the client may read.
func (g *Registry) catalog(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPageSize)
	if err != nil {
		return err
	}
	names := []string{}
	after, more := p.last, p.n > 0
	for scanned := 0; more && len(names) < p.n && scanned < g.scan; scanned += maxPageSize {
		all, err := g.storage.Repositories(q.Context(), after, maxPageSize+1)
		if err != nil {
			return err
		}
		more = len(all) > maxPageSize
		for i, r := range all[:min(len(all), maxPageSize)] {
			after = r.Name
			if q.grant.MayList(r.Name) {
				names = append(names, r.Name)
			}
			if len(names) == p.n {
				more = i+1 < len(all)
				break
			}
		}
	}
	if more {
		p.setNextLink(w, q, after)
	}
	return writeJSON(w, map[string]any{"repositories": names})
}

// listReferrers serves an index, possibly empty, of the manifests that have the digest
// as their subject.
func (g *Registry) listReferrers(w http.ResponseWriter, q *request) error {
	p, err := q.page(maxPageSize)
	if err != nil {
		return err
	}
	artifactType := q.URL.Query().Get("artifactType")
	manifests, last, more, err := g.referrers(q, p, artifactType)
	if err != nil {
		return err
	}
	if more && len(manifests) > 0 {
		p.setNextLink(w, q, string(last))
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return writeJSONAs(w, oci.MediaTypeImageIndex, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": manifests,
	})
}

// referrers returns page p of the referrers, in JSON, the digest of the last one on it,
// and whether there are more pages.
func (g *Registry) referrers(
	q *request, p page, artifactType string,
) (manifests []json.RawMessage, last digest.Digest, more bool, err error) {
	manifests, last = []json.RawMessage{}, digest.Digest(p.last)
	limit := min(referrerBatch, p.n+1)
	for size := 0; ; {
		some, err := g.storage.Referrers(q.Context(), q.repository, digest.Digest(q.reference), storage.ReferrerPage{
			ArtifactType: artifactType, After: last, Limit: limit,
		})
		if err != nil {
			return nil, "", false, err
		}
		for _, d := range some {
			text, err := json.Marshal(d)
			if err != nil {
				return nil, "", false, err
			}
			if size += len(text) + 1; len(manifests) == p.n || size > maxReferrers && len(manifests) > 0 {
				return manifests, last, true, nil
			}
			manifests, last = append(manifests, text), d.Digest
		}
		if len(some) < limit {
			return manifests, last, false, nil
		}
	}
}
