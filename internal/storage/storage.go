// Package storage is the only writer of content: what a client pushes and
// what a sync brings go through it, so that the reservations are kept in one
// place. A blob is visible only after its digest was verified and its bytes
// were fsynced; a manifest only when its children are present; a tag moves
// last and in one transaction; nothing is removed while something refers to
// it, leases it, or it is younger than the grace period; and every byte is
// stored and served as it came.
package storage

import (
	"cmp"
	"context"
	_ "crypto/sha512" // digests of this algorithm are as good as sha256's
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
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
	Now   func() time.Time // of what people read; nil is time.Now
	// Uptime is how long this process has run, by a clock that no step of the wall
	// clock moves; nil counts from New on. Ages are counted by it.
	Uptime func() time.Duration
	Grace  time.Duration // how long unreferenced content is safe from collection; 0 is an hour
}

// A Storage is an instance's content. It is safe for concurrent use. Only one
// Storage may use a data directory (see [LockDir]).
type Storage struct {
	db    *metadb.DB
	blobs blob.Store
	log   *slog.Logger
	now   func() time.Time
	grace time.Duration
	ran   func() time.Duration // for how long this process has

	// digests guards a blob's file and its row together: a commit and a
	// collection of the same digest never overlap.
	digests keyLock
	// partials gives each upload and each transfer one user at a time.
	partials     keyLock
	transfers    transfers
	parsing      sync.Mutex // held while a large manifest is in memory; see [View.ParseManifest]
	cache        *cache
	watchers     watchers
	reservations reservations
	fullAt       atomic.Pointer[metadb.Uptime] // when the disk was last found full; nil is never
	anyDamage    atomic.Int32                  // see [damageUnknown]
	damageFound  signal
}

// New returns the storage over o's database and blob store. It reads nothing,
// however much is stored.
func New(o Options) (*Storage, error) {
	if o.DB == nil || o.Blobs == nil {
		return nil, errors.New("open storage: it needs a database and a blob store")
	}
	s := &Storage{
		db: o.DB, blobs: o.Blobs, now: o.Now, cache: newCache(cacheSize),
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), grace: cmp.Or(o.Grace, time.Hour),
	}
	s.transfers.open = map[*Transfer]bool{}
	s.reservations.all = map[*Reservation]bool{}
	s.watchers.groups = map[string]*watchGroup{}
	if s.now == nil {
		s.now = time.Now
	}
	if s.ran = o.Uptime; s.ran == nil {
		start := s.now() // that of package time has a reading of the clock that no step moves
		s.ran = func() time.Duration { return s.now().Sub(start) }
	}
	return s, nil
}

// Uptime returns the moment from which ages are counted now.
func (s *Storage) Uptime() metadb.Uptime { return s.db.Uptime().Add(s.ran()) }

// SaveUptime writes the moment down. After a crash, ages are counted on from what was
// written last, so that content seems younger than it is, and never older.
func (s *Storage) SaveUptime(ctx context.Context) error {
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.SaveUptime(s.Uptime()) })
}

// write runs fn in a transaction.
func (s *Storage) write(ctx context.Context, fn func(*metadb.Tx) error) error {
	return s.mapDiskFull(s.db.Update(ctx, fn))
}

// A Note writes to the audit log, in the transaction of a change, who made the change. If it
// fails, the change is not made.
type Note func(*metadb.Tx) error

func writeNotes(tx *metadb.Tx, notes []Note) error {
	for _, write := range notes {
		if err := write(tx); err != nil {
			return err
		}
	}
	return nil
}

// remove runs fn, which removes something or lets it be removed, in a transaction. On a
// full disk it has the reserve, and fn may be run twice.
func (s *Storage) remove(ctx context.Context, fn func(*metadb.Tx) error) error {
	return s.mapDiskFull(s.db.UpdateWithReserve(ctx, fn))
}

// checkReserve returns [oci.ErrNoSpace] while the reserve is not there: what room there
// is, is for removals.
func (s *Storage) checkReserve() error { return s.mapDiskFull(s.db.KeepReserve()) }

// convert returns what of returns for each row.
func convert[R, T any](rows []R, of func(R) T) (all []T) {
	all = slices.Grow(all, len(rows))
	for _, row := range rows {
		all = append(all, of(row))
	}
	return all
}

// known turns a row that is not there into the specification's error for it.
func mapNotFound(err error, unknown *oci.Error) error {
	if errors.Is(err, metadb.ErrNotFound) || errors.Is(err, blob.ErrNotExist) {
		return unknown
	}
	return err
}

// full turns the system's word for a full disk into the client's, and
// remembers when that was.
func (s *Storage) mapDiskFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || metadb.IsFull(err) {
		s.fullAt.Store(new(s.Uptime()))
		if errors.Is(err, oci.ErrNoSpace) {
			return err // it says so already
		}
		return fmt.Errorf("%w: %w", oci.ErrNoSpace, err)
	}
	return err
}

// What is stored is described by its rows.
type (
	// A Manifest is a stored manifest, byte for byte.
	Manifest = metadb.Manifest
	// A Tag is a name for a manifest in a repository.
	Tag = metadb.Tag
	// A TagOrder says which tags of a repository to list, and in what order.
	TagOrder = metadb.TagOrder
)

// A Put is a manifest on its way in.
type Put struct {
	Repository string
	MediaType  string // the Content-Type it came with; "" where the payload says
	Payload    []byte
	Digest     digest.Digest // what the payload must hash to; "" is sha256 of it
	Tags       []string      // set in the same transaction, last
	// Omitted are children that an index is stored without, since a platform
	// filter left them out. It does not hold them, even where they are here.
	// All others must be.
	Omitted []digest.Digest
}
