package registry

import (
	"errors"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A tagView is a tag with its attributes, as the reference shows it.
type tagView struct {
	Name                 string        `json:"name"`
	Digest               digest.Digest `json:"digest"`
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	Signed               bool          `json:"signed"` // by Docker's content trust, which is no more
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

func viewTag(t storage.Tag) tagView {
	return tagView{t.Name, t.Digest, t.CreatedAt, t.UpdatedAt, false, attributesOf(t.Locks)}
}

// tagAttributesList lists tags by name, or by time when orderby says so; only
// those of one manifest where digest names it.
func (g *Registry) tagAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPage)
	if err != nil {
		return err
	}
	of, order := q.URL.Query().Get("digest"), q.URL.Query().Get("orderby")
	if of != "" {
		if _, err := oci.ParseDigest(of); err != nil {
			return err
		}
	}
	var tags []storage.Tag
	switch {
	case order != "" && order != "none" && order != "timeasc" && order != "timedesc":
		err = errAttributes.With("orderby is none of timeasc, timedesc, none")
	case of == "" && (order == "" || order == "none"):
		tags, err = g.tags(w, q, p)
	default:
		tags, err = g.sortedTags(w, q, p, digest.Digest(of), order)
	}
	if err != nil {
		return err
	}
	views := make([]tagView, len(tags))
	for i, t := range tags {
		views[i] = viewTag(t)
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "tags": views})
}

// sortedTags returns the page behind the tag p.last of a list that is not all
// tags by name.
func (g *Registry) sortedTags(w http.ResponseWriter, q *request, p page, of digest.Digest, order string) ([]storage.Tag, error) {
	o := storage.TagOrder{Digest: of, ByTime: order == "timeasc" || order == "timedesc", Newest: order == "timedesc"}
	all, err := g.storage.SortedTags(q.Context(), q.repository, o, p.last, p.n+1)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return nil, errAttributes.With("last names no tag of this list; it may be gone, begin anew")
	}
	if len(all) > p.n && p.n > 0 {
		p.next(w, q, all[p.n-1].Name)
	}
	return all[:min(len(all), p.n)], err
}

func (g *Registry) tagAttributes(w http.ResponseWriter, q *request) error {
	t, err := g.storage.Tag(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "tag": viewTag(t)})
}

// untag removes a tag and leaves the manifest.
func (g *Registry) untag(w http.ResponseWriter, q *request) error {
	if err := g.storage.DeleteTag(q.Context(), q.repository, q.reference); err != nil {
		return err
	}
	return writeAccepted(w)
}
