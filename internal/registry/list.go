package registry

import (
	"net/http"
	"net/url"
	"strconv"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// The number of entries on a page: asked for by n, or as many as this.
const (
	defaultPage = 100
	maxPage     = 1000
)

// A page is the part of a list that a client asks for.
type page struct {
	n    int
	last string
}

func (q *request) page(byDefault int) (page, error) {
	query := q.URL.Query()
	p := page{n: byDefault, last: query.Get("last")}
	if text := query.Get("n"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return page{}, &oci.Error{Code: "PAGINATION_NUMBER_INVALID", Message: "n is no number of entries", Status: http.StatusBadRequest}
		}
		p.n = min(n, maxPage)
	}
	return p, nil
}

// next sets the Link header (RFC 8288) to the page behind last.
func (p page) next(w http.ResponseWriter, q *request, last string) {
	query := q.URL.Query()
	query.Set("n", strconv.Itoa(p.n))
	query.Set("last", last)
	u := url.URL{Path: q.URL.Path, RawQuery: query.Encode()}
	w.Header().Set("Link", "<"+u.String()+`>; rel="next"`)
}

// listTags lists a repository's tags by name.
func (g *Registry) listTags(w http.ResponseWriter, q *request) error {
	p, err := q.page(maxPage)
	if err != nil {
		return err
	}
	names := []string{}
	tags, err := g.tags(w, q, p)
	for _, t := range tags {
		names = append(names, t.Name)
	}
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"name": q.repository, "tags": names})
}

// tags returns a page of tags, and sets the Link where there are more.
func (g *Registry) tags(w http.ResponseWriter, q *request, p page) ([]storage.Tag, error) {
	if p.n == 0 {
		_, err := g.storage.Tags(q.Context(), q.repository, "", 1) // it has to exist
		return nil, err
	}
	tags, err := g.storage.Tags(q.Context(), q.repository, p.last, p.n+1)
	if err == nil && len(tags) > p.n {
		tags = tags[:p.n]
		p.next(w, q, tags[p.n-1].Name)
	}
	return tags, err
}

// catalog lists the repositories that the client may read.
func (g *Registry) catalog(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPage)
	if err != nil {
		return err
	}
	names := []string{}
	for after := p.last; len(names) < p.n; {
		all, err := g.storage.Repositories(q.Context(), after, maxPage)
		if err != nil {
			return err
		}
		for _, r := range all {
			if after = r.Name; !q.grant.MayList(r.Name) {
				continue
			}
			names = append(names, r.Name)
			if len(names) == p.n {
				p.next(w, q, after)
				break
			}
		}
		if len(all) < maxPage {
			break
		}
	}
	return writeJSON(w, map[string]any{"repositories": names})
}

// listReferrers answers with an index of the manifests whose subject is the
// digest; an empty one where there is none.
func (g *Registry) listReferrers(w http.ResponseWriter, q *request) error {
	artifactType := q.URL.Query().Get("artifactType")
	all, err := g.storage.Referrers(q.Context(), q.repository, digest.Digest(q.reference), artifactType)
	if err != nil {
		return err
	}
	if artifactType != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	if all == nil {
		all = []oci.Descriptor{}
	}
	return writeJSONAs(w, oci.MediaTypeImageIndex, map[string]any{
		"schemaVersion": 2, "mediaType": oci.MediaTypeImageIndex, "manifests": all,
	})
}
