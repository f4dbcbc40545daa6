package registry

import (
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
	var o storage.TagOrder
	if of := q.URL.Query().Get("digest"); of != "" {
		if o.Digest, err = oci.ParseDigest(of); err != nil {
			return err
		}
	}
	switch q.URL.Query().Get("orderby") {
	case "", "none":
	case "timeasc":
		o.ByTime = true
	case "timedesc":
		o.ByTime, o.Newest = true, true
	default:
		return errAttributes.With("orderby is none of timeasc, timedesc, none")
	}
	tags, err := g.tags(w, q, p, o)
	if err != nil {
		return err
	}
	views := make([]tagView, len(tags))
	for i, t := range tags {
		views[i] = viewTag(t)
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "tags": views})
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
