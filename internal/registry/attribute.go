package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
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

// errAttributes answers what the listings with attributes cannot read.
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

// deleteRepository removes a repository with everything in it.
func (g *Registry) deleteRepository(w http.ResponseWriter, q *request) error {
	if err := g.storage.DeleteRepository(q.Context(), q.repository); err != nil {
		return err
	}
	return writeAccepted(w)
}

// writeAccepted answers a deletion as the reference does, with a body.
func writeAccepted(w http.ResponseWriter) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	io.WriteString(w, "{}") // a client that went away needs no answer
	return nil
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
	m, err := g.storage.DescribeManifest(q.Context(), q.repository, digest.Digest(q.reference))
	if err != nil {
		return err
	}
	return g.lock(w, q, m.Locks, g.manifestAttributes)
}

// lock changes those attributes that the body names, and answers with view.
func (g *Registry) lock(w http.ResponseWriter, q *request, locks storage.Locks, view func(http.ResponseWriter, *request) error) error {
	locks, err := readLocks(w, q, locks)
	if err != nil {
		return err
	}
	if err := g.storage.SetLocks(q.Context(), q.repository, q.reference, locks); err != nil {
		return err
	}
	return view(w, q)
}

// readLocks returns locks with the changes that the body asks for.
func readLocks(w http.ResponseWriter, q *request, locks storage.Locks) (storage.Locks, error) {
	var change struct {
		DeleteEnabled, WriteEnabled, ReadEnabled, ListEnabled *bool
	}
	b := newBody(w, q, maxAttributes)
	d := json.NewDecoder(b)
	d.DisallowUnknownFields()
	err := d.Decode(&change)
	if err == nil {
		if _, end := d.Token(); !errors.Is(end, io.EOF) {
			err = errAttributes // something follows
		}
	}
	if e := b.broke(err); e != nil {
		return 0, e
	}
	if err != nil {
		return 0, errAttributes.With("the body is not one JSON object of deleteEnabled, writeEnabled, readEnabled and listEnabled, each true or false")
	}
	for lock, enabled := range map[storage.Locks]*bool{
		storage.NoDelete: change.DeleteEnabled, storage.NoWrite: change.WriteEnabled,
		storage.NoRead: change.ReadEnabled, storage.NoList: change.ListEnabled,
	} {
		switch {
		case enabled == nil:
		case *enabled:
			locks &^= lock
		default:
			locks |= lock
		}
	}
	return locks, nil
}
