package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// maxAttributes is the maximum size of the body of an attribute change, in bytes.
const maxAttributes = 4 << 10

// attributes are the changeable attributes of a repository, a tag or a manifest, with
// the reference's names.
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

// errAttributes answers a malformed request to an endpoint below /acr/v1/.
var errAttributes = &oci.Error{Code: "INVALID", Message: "the request is malformed", Status: http.StatusBadRequest}

type repositoryView struct {
	Registry             string     `json:"registry"`
	ImageName            string     `json:"imageName"`
	CreatedTime          time.Time  `json:"createdTime"`
	LastUpdateTime       time.Time  `json:"lastUpdateTime"`
	ManifestCount        int        `json:"manifestCount"`
	TagCount             int        `json:"tagCount"`
	ChangeableAttributes attributes `json:"changeableAttributes"`
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

// maxDeleted is how many manifests, and how many tags, the response to the deletion of a repository lists.
const maxDeleted = 10_000

// deleteRepository removes a repository with everything in it.
func (g *Registry) deleteRepository(w http.ResponseWriter, q *request) error {
	gone, err := g.storage.DeleteRepositoryListing(q.Context(), q.repository, maxDeleted, g.auditNote(q, "delete", ""))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"manifestsDeleted": append([]digest.Digest{}, gone.Manifests...), // an empty list, not null
		"tagsDeleted":      append([]string{}, gone.Tags...),
	})
	if err != nil {
		return err
	}
	writeAccepted(w, body)
	return nil
}

// writeAccepted writes the response to a deletion. Like the reference's, it has a body.
func writeAccepted(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	w.Write(body) // an error means that the client is gone
}

func (g *Registry) lockRepository(w http.ResponseWriter, q *request) error {
	return g.lock(w, q, g.repositoryAttributes)
}

func (g *Registry) lockTag(w http.ResponseWriter, q *request) error {
	return g.lock(w, q, g.tagAttributes)
}

func (g *Registry) lockManifest(w http.ResponseWriter, q *request) error {
	return g.lock(w, q, g.manifestAttributes)
}

// lock changes the attributes that are in the body, and writes the response with view.
func (g *Registry) lock(w http.ResponseWriter, q *request, view func(http.ResponseWriter, *request) error) error {
	change, words, err := readLocks(w, q)
	if err != nil {
		return err
	}
	err = g.storage.ChangeLocks(q.Context(), q.repository, q.reference, change, g.auditNote(q, "lock", words))
	if err != nil {
		return err
	}
	return view(w, q)
}

// readLocks returns the change in the body, and the same change in words for the audit
// log, such as "readEnabled=false".
func readLocks(w http.ResponseWriter, q *request) (c storage.LockChange, words string, err error) {
	var change struct {
		DeleteEnabled, WriteEnabled, ReadEnabled, ListEnabled *bool
	}
	b := newBody(w, q, maxAttributes)
	d := json.NewDecoder(b)
	d.DisallowUnknownFields()
	err = d.Decode(&change)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errAttributes // the body has more than one value
		}
	}
	if e := b.readError(err); e != nil {
		return c, "", e
	}
	if err != nil {
		return c, "", errAttributes.With(
			"want one JSON object with deleteEnabled, writeEnabled, readEnabled or listEnabled, each true or false")
	}
	for _, a := range []struct {
		name    string
		enabled *bool
		lock    storage.Locks
	}{
		{"deleteEnabled", change.DeleteEnabled, storage.NoDelete},
		{"writeEnabled", change.WriteEnabled, storage.NoWrite},
		{"readEnabled", change.ReadEnabled, storage.NoRead}, {"listEnabled", change.ListEnabled, storage.NoList},
	} {
		switch {
		case a.enabled == nil:
			continue
		case *a.enabled:
			c.Clear |= a.lock
		default:
			c.Set |= a.lock
		}
		words += fmt.Sprintf(" %s=%t", a.name, *a.enabled)
	}
	return c, strings.TrimPrefix(words, " "), nil
}

// A tagView is a tag with its attributes, in the reference's form.
type tagView struct {
	Name                 string        `json:"name"`
	Digest               digest.Digest `json:"digest"`
	CreatedTime          time.Time     `json:"createdTime"`
	LastUpdateTime       time.Time     `json:"lastUpdateTime"`
	Signed               bool          `json:"signed"` // with Docker Content Trust, which is retired: always false
	ChangeableAttributes attributes    `json:"changeableAttributes"`
}

func viewTag(t storage.Tag) tagView {
	return tagView{t.Name, t.Digest, t.CreatedAt, t.UpdatedAt, false, attributesOf(t.Locks)}
}

// tagAttributesList lists tags, ordered by name unless the parameter orderby says by
// time. The parameter digest limits the list to the tags of one manifest.
func (g *Registry) tagAttributesList(w http.ResponseWriter, q *request) error {
	p, err := q.page(defaultPageSize)
	if err != nil {
		return err
	}
	var o storage.TagOrder
	if of := q.URL.Query().Get("digest"); of != "" {
		if o.Digest, err = oci.ParseDigest(of); err != nil {
			return err
		}
	}
	if o.ByTime, o.Newest, err = q.order(); err != nil {
		return err
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

// order returns the order that the parameter orderby asks for.
func (q *request) order() (byTime, newest bool, err error) {
	switch q.URL.Query().Get("orderby") {
	case "", "none":
		return false, false, nil
	case "timeasc":
		return true, false, nil
	case "timedesc":
		return true, true, nil
	}
	return false, false, errAttributes.With("orderby must be timeasc, timedesc or none")
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
	if err := g.storage.DeleteTag(q.Context(), q.repository, q.reference, g.auditNote(q, "delete", "")); err != nil {
		return err
	}
	writeAccepted(w, []byte("{}"))
	return nil
}
