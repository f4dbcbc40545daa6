package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// maxAttributes is the largest body, in bytes, of a change to attributes.
const maxAttributes = 4 << 10

// attributes are what may be done with something, in the reference's words.
type attributes struct {
	DeleteEnabled bool `json:"deleteEnabled"`
	WriteEnabled  bool `json:"writeEnabled"`
	ReadEnabled   bool `json:"readEnabled"`
	ListEnabled   bool `json:"listEnabled"`
}

func attributesOf(l storage.Locks) attributes {
	return attributes{
		DeleteEnabled: l&storage.NoDelete == 0, WriteEnabled: l&storage.NoWrite == 0,
		ReadEnabled: l&storage.NoRead == 0, ListEnabled: l&storage.NoList == 0,
	}
}

type repositoryView struct {
	Registry             string     `json:"registry"`
	ImageName            string     `json:"imageName"`
	CreatedTime          time.Time  `json:"createdTime"`
	LastUpdateTime       time.Time  `json:"lastUpdateTime"`
	ManifestCount        int        `json:"manifestCount"`
	TagCount             int        `json:"tagCount"`
	ChangeableAttributes attributes `json:"changeableAttributes"`
}

type tagView struct {
	Name                 string        `json:"name"`
	Digest               digest.Digest `json:"digest"`
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	Signed               bool          `json:"signed"`
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

type manifestView struct {
	Digest               digest.Digest `json:"digest"`
	ImageSize            int64         `json:"imageSize"` // of the manifest itself
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	MediaType            string        `json:"mediaType"`
	ArtifactType         string        `json:"artifactType,omitempty"`
	Tags                 []string      `json:"tags"`
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

func (g *Registry) repositoryAttributes(w http.ResponseWriter, q *request) error {
	r, err := g.storage.Repository(q.Context(), q.repository)
	if err != nil {
		return err
	}
	return writeJSON(w, repositoryView{
		q.Host, r.Name, r.CreatedAt, r.UpdatedAt, r.Manifests, r.Tags, attributesOf(r.Locks),
	})
}

// deleteRepository removes a repository with everything in it.
func (g *Registry) deleteRepository(w http.ResponseWriter, q *request) error {
	if err := g.storage.DeleteRepository(q.Context(), q.repository, ""); err != nil {
		return err
	}
	return writeAccepted(w)
}

// writeAccepted answers a deletion as the reference does, with a body.
func writeAccepted(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, "{}")
	return nil
}

// tagAttributesList lists tags by name, or by time when orderby says so.
func (g *Registry) tagAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPage)
	if err != nil {
		return err
	}
	var tags []storage.Tag
	switch order := q.URL.Query().Get("orderby"); order {
	case "timeasc", "timedesc":
		tags, err = g.tagsByTime(w, q, p, order == "timedesc")
	case "", "none":
		tags, err = g.tags(w, q, p)
	default:
		err = &oci.Error{Code: "INVALID", Message: "orderby is none of timeasc, timedesc, none", Status: http.StatusBadRequest}
	}
	if err != nil {
		return err
	}
	views := []tagView{}
	for _, t := range tags {
		views = append(views, viewTag(t))
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "tags": views})
}

// tagsByTime reads every tag, since the order is not that of the database,
// and returns the page behind the tag p.last.
func (g *Registry) tagsByTime(w http.ResponseWriter, q *request, p page, newestFirst bool) ([]storage.Tag, error) {
	var all []storage.Tag
	for after := ""; ; {
		tags, err := g.storage.Tags(q.Context(), q.repository, after, maxPage)
		if err != nil {
			return nil, err
		}
		all = append(all, tags...)
		if len(tags) < maxPage {
			break
		}
		after = tags[len(tags)-1].Name
	}
	slices.SortStableFunc(all, func(a, b storage.Tag) int {
		if newestFirst {
			a, b = b, a
		}
		return a.UpdatedAt.Compare(b.UpdatedAt)
	})
	if p.last != "" {
		if i := slices.IndexFunc(all, func(t storage.Tag) bool { return t.Name == p.last }); i >= 0 {
			all = all[i+1:]
		}
	}
	if len(all) > p.n && p.n > 0 {
		p.next(w, q, all[p.n-1].Name)
	}
	return all[:min(len(all), p.n)], nil
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
	if err := g.storage.DeleteTag(q.Context(), q.repository, q.reference, ""); err != nil {
		return err
	}
	return writeAccepted(w)
}

func viewTag(t storage.Tag) tagView {
	return tagView{t.Name, t.Digest, t.CreatedAt, t.UpdatedAt, false, attributesOf(t.Locks)}
}

func (g *Registry) manifestAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPage)
	if err != nil {
		return err
	}
	all, err := g.storage.Manifests(q.Context(), q.repository, p.last, p.n+1)
	if err != nil {
		return err
	}
	if len(all) > p.n {
		all = all[:p.n]
		if p.n > 0 {
			p.next(w, q, string(all[p.n-1].Digest))
		}
	}
	views := []manifestView{}
	for _, m := range all {
		v, err := g.viewManifest(q, m)
		if err != nil {
			return err
		}
		views = append(views, v)
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "manifests": views})
}

func (g *Registry) manifestAttributes(w http.ResponseWriter, q *request) error {
	m, err := g.storage.Manifest(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	v, err := g.viewManifest(q, *m)
	if err != nil {
		return err
	}
	return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "manifest": v})
}

func (g *Registry) viewManifest(q *request, m storage.Manifest) (manifestView, error) {
	tags, err := g.storage.ManifestTags(q.Context(), q.repository, m.Digest)
	if tags == nil {
		tags = []string{}
	}
	return manifestView{m.Digest, m.Size, m.PushedAt, m.PushedAt, m.MediaType, m.ArtifactType, tags, attributesOf(m.Locks)}, err
}

func (g *Registry) lockRepository(w http.ResponseWriter, q *request) error {
	r, err := g.storage.Repository(q.Context(), q.repository)
	if err != nil {
		return err
	}
	return g.lock(w, q, r.Locks, g.repositoryAttributes)
}

func (g *Registry) lockTag(w http.ResponseWriter, q *request) error {
	t, err := g.storage.Tag(q.Context(), q.repository, q.reference)
	if err != nil {
		return err
	}
	return g.lock(w, q, t.Locks, g.tagAttributes)
}

func (g *Registry) lockManifest(w http.ResponseWriter, q *request) error {
	locks, err := g.storage.ManifestLocks(q.Context(), q.repository, digest.Digest(q.reference))
	if err != nil {
		return err
	}
	return g.lock(w, q, locks, func(w http.ResponseWriter, q *request) error {
		return writeJSON(w, map[string]any{"registry": q.Host, "imageName": q.repository, "digest": q.reference})
	})
}

// lock changes those attributes that the body names, and answers with view.
func (g *Registry) lock(w http.ResponseWriter, q *request, locks storage.Locks, view func(http.ResponseWriter, *request) error) error {
	var body struct {
		DeleteEnabled, WriteEnabled, ReadEnabled, ListEnabled *bool
	}
	d := json.NewDecoder(http.MaxBytesReader(w, q.Body, maxAttributes))
	d.DisallowUnknownFields()
	if err := d.Decode(&body); err != nil {
		message := "the body is no JSON object of deleteEnabled, writeEnabled, readEnabled and listEnabled"
		if errors.Is(err, io.EOF) {
			message = "the body is empty"
		}
		return &oci.Error{Code: "INVALID", Message: message, Status: http.StatusBadRequest}
	}
	for lock, enabled := range map[storage.Locks]*bool{
		storage.NoDelete: body.DeleteEnabled, storage.NoWrite: body.WriteEnabled,
		storage.NoRead: body.ReadEnabled, storage.NoList: body.ListEnabled,
	} {
		switch {
		case enabled == nil:
		case *enabled:
			locks &^= lock
		default:
			locks |= lock
		}
	}
	if err := g.storage.SetLocks(q.Context(), q.repository, q.reference, locks); err != nil {
		return err
	}
	return view(w, q)
}
