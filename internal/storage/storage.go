// Package storage is the only writer of content: what a client pushes and
// what a sync brings go through it, so that the promises are kept in one
// place. A blob is visible only after its digest was verified and its bytes
// were fsynced; a manifest only when its children are present; a tag moves
// last and in one transaction; nothing is removed while something refers to
// it, leases it, or it is younger than the grace period; and every byte is
// stored and served as it came.
package storage

import (
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// Options are what a Storage is made of. DB and Blobs are required.
type Options struct {
	DB    *metadb.DB
	Blobs blob.Store
	Log   *slog.Logger     // nil discards
	Now   func() time.Time // nil is time.Now
	Grace time.Duration    // how long unreferenced content is safe from collection; 0 is an hour
}

// A Manifest is a stored manifest, byte for byte.
type Manifest struct {
	Repository   string
	Digest       digest.Digest
	MediaType    string
	ArtifactType string
	Subject      digest.Digest // "" where there is none
	Payload      []byte        // must not be changed
	PushedAt     time.Time
	Locks        Locks
}

// A Tag is a name for a manifest in a repository.
type Tag struct {
	Name      string
	Digest    digest.Digest
	CreatedAt time.Time
	UpdatedAt time.Time
	Locks     Locks
}

// Locks are the attributes that keep content as it is; the zero value locks nothing.
type Locks uint8

// What a lock forbids.
const (
	NoRead Locks = 1 << iota
	NoWrite
	NoDelete
	NoList
)

// A Put is a manifest on its way in.
type Put struct {
	Repository string
	MediaType  string // the Content-Type it came with; "" where the payload says
	Payload    []byte
	Digest     digest.Digest // what the payload must hash to; "" is sha256 of it
	Tags       []string      // set in the same transaction, last
	Origin     string        // who wrote it, for the change feed; "" is a client here
	// MayLack reports whether an index may be stored without this child
	// (a platform filter left it out). Nil: every child must be present.
	MayLack func(child oci.Descriptor) bool
}

// A Change is an entry of the change feed.
type Change struct {
	Seq        int64
	Kind       ChangeKind
	Repository string
	Tag        string        // of a tag's changes
	Digest     digest.Digest // what the tag now names, or the manifest
	Origin     string
	At         time.Time
}

// A ChangeKind says what a [Change] was.
type ChangeKind string

// The kinds of change. ControlChanged has no repository: something among the
// scope maps, tokens and connected registries was written.
const (
	TagSet          ChangeKind = "tag-set"
	TagRemoved      ChangeKind = "tag-removed"
	ManifestAdded   ChangeKind = "manifest-added"
	ManifestRemoved ChangeKind = "manifest-removed"
	ControlChanged  ChangeKind = "control-changed"
)
