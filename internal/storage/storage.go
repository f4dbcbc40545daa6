// Package storage is the only writer of content. All content that clients push, and that syncs
// fetch, passes through it, so that these promises are kept in one place: A blob is visible
// only after its digest was verified and its bytes were fsynced. A manifest is visible only
// when its children are present. A tag moves last, and in one transaction. Nothing is deleted
// while something refers to it, while a lease holds it, or before it is older than the grace
// period. Every byte is stored and served as it was received.
package storage

import (
	"cmp"
	"context"
	_ "crypto/sha512" // links the algorithm of sha512 digests
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
	"ferry/internal/retry"
	"ferry/internal/storage/blob"
)

// Options configure a Storage. DB and Blobs are required.
type Options struct {
	DB    *metadb.DB
	Blobs blob.Store
	Log   *slog.Logger     // nil discards
	Now   func() time.Time // for times that people read; nil is time.Now
	// Uptime returns how long this process has run, by a clock that no step of the wall clock
	// moves. Ages are counted by it. nil counts from New on.
	Uptime func() time.Duration
	Grace  time.Duration // how long unreferenced content is safe from collection; 0 is an hour
	// Orphans is how long a file without a row is kept; 0 is [OrphanAge].
	Orphans time.Duration
	// Locks has the locks that other processes with the same content respect; nil means that there is
	// no other process.
	Locks *metadb.Session
	// Observe is called in the transaction of each change of content; nil is not called.
	Observe ContentObserver
	// SendsUp says that clients' changes are recorded for a parent; see outbox.go.
	SendsUp bool
}

// A Storage is the content of an instance. It is safe for concurrent use. A data directory may
// have only one Storage (see [LockDir]).
type Storage struct {
	db      *metadb.DB
	blobs   blob.Store
	least   int64 // how many bytes are worth a Sync of a partial
	log     *slog.Logger
	now     func() time.Time
	grace   time.Duration
	orphans time.Duration
	ran     func() time.Duration // how long this process has run
	ahead   atomic.Int64         // how far the saved uptime was ahead of this process, in milliseconds

	// digests locks the file and the row of a blob together, so that a commit and a
	// collection of the same blob never overlap.
	digests processLock
	// partials locks each upload and each transfer for one user at a time.
	partials     processLock
	uploadUsers  uploadUsers
	uploadsAway  uploadsAway
	transfers    transfers
	parsing      sync.Mutex // held while a large manifest is in memory; see [View.ParseManifest]
	cache        *cache
	watchers     watchers
	reservations reservations
	links        links                         // to blobs
	fullAt       atomic.Pointer[metadb.Uptime] // when the disk was last full; nil is never
	anyDamage    atomic.Int32                  // see [damageUnknown]
	damageFound  retry.Signal
	observe      ContentObserver

	sendsUp       bool         // clients' changes are recorded for the parent
	outboxChanged retry.Signal // raised after a client's change was recorded
}

// New returns the storage in o's database and blob store. It reads nothing, so that it is fast
// however much is stored.
func New(o Options) (*Storage, error) {
	if o.DB == nil || o.Blobs == nil {
		return nil, errors.New("open storage: it needs a database and a blob store")
	}
	s := &Storage{
		db: o.DB, blobs: o.Blobs, now: o.Now, cache: newCache(cacheSize),
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), grace: cmp.Or(o.Grace, defaultGrace),
		orphans: cmp.Or(o.Orphans, OrphanAge), observe: o.Observe, sendsUp: o.SendsUp,
	}
	s.digests.session, s.partials.session = o.Locks, o.Locks
	o.DB.OnUncertain(func() { s.cache.forgetIf(func(cacheKey) bool { return true }) })
	s.transfers.open = map[*Transfer]bool{}
	s.reservations.all = map[*Reservation]bool{}
	s.watchers.groups = map[string]*watchGroup{}
	if s.now == nil {
		s.now = time.Now
	}
	if s.ran = o.Uptime; s.ran == nil {
		start := s.now() // its monotonic reading is not moved by steps of the clock
		s.ran = func() time.Duration { return s.now().Sub(start) }
	}
	return s, nil
}

// Uptime returns the current moment for ages.
func (s *Storage) Uptime() metadb.Uptime {
	return s.db.Uptime().Add(s.ran()) + metadb.Uptime(s.ahead.Load())
}

// SaveUptime saves the uptime. After a crash, ages are counted on from the saved uptime, so
// that content may seem younger than it is, but never older. If another process has saved a later
// one, this process continues from there.
func (s *Storage) SaveUptime(ctx context.Context) error {
	var now, saved metadb.Uptime
	err := s.remove(ctx, func(tx *metadb.Tx) (err error) {
		now = s.Uptime()
		if err = tx.SaveUptime(now); err == nil {
			saved, err = tx.Uptime()
		}
		return err
	})
	if err == nil && saved > now {
		s.ahead.Add(int64(saved - now))
	}
	return err
}

// write runs fn in a transaction.
func (s *Storage) write(ctx context.Context, fn func(*metadb.Tx) error) error {
	return s.mapDiskFull(s.db.Update(ctx, fn))
}

// mayHaveWritten reports whether an update with the error err may have changed anything. If not, because
// the database did not answer, what is cached is still served.
func mayHaveWritten(err error) bool {
	return !errors.Is(err, metadb.ErrUnavailable) || errors.Is(err, metadb.ErrUncertain)
}

// A Note writes to the audit log, in the transaction of a change, who makes the change. If it
// fails, the change fails.
type Note func(*metadb.Tx) error

func writeNotes(tx *metadb.Tx, notes []Note) error {
	for _, write := range notes {
		if err := write(tx); err != nil {
			return err
		}
	}
	return nil
}

// remove runs fn, which deletes content or makes it deletable, in a transaction. On a full disk
// it uses the reserve, and may run fn twice.
func (s *Storage) remove(ctx context.Context, fn func(*metadb.Tx) error) error {
	return s.mapDiskFull(s.db.UpdateWithReserve(ctx, fn))
}

// checkReserve returns [oci.ErrNoSpace] if there is no space for the reserve: the remaining
// space is for removals.
func (s *Storage) checkReserve() error { return s.mapDiskFull(s.db.KeepReserve()) }

// convert returns the results of of for all rows.
func convert[R, T any](rows []R, of func(R) T) (all []T) {
	all = slices.Grow(all, len(rows))
	for _, row := range rows {
		all = append(all, of(row))
	}
	return all
}

// mapNotFound replaces the error for a row or file that does not exist by the specification's
// error.
func mapNotFound(err error, unknown *oci.Error) error {
	if errors.Is(err, metadb.ErrNotFound) || errors.Is(err, blob.ErrNotExist) {
		return unknown
	}
	return err
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || metadb.IsFull(err)
}

// mapDiskFull wraps an error of a full disk with [oci.ErrNoSpace], and records when it
// occurred.
func (s *Storage) mapDiskFull(err error) error {
	if isDiskFull(err) {
		s.fullAt.Store(new(s.Uptime()))
		if errors.Is(err, oci.ErrNoSpace) {
			return err // it is wrapped already
		}
		return fmt.Errorf("%w: %w", oci.ErrNoSpace, err)
	}
	return err
}

// Stored content is described by its rows.
type (
	// A Manifest is a stored manifest, byte for byte.
	Manifest = metadb.Manifest
	// A Tag is a name for a manifest in a repository.
	Tag = metadb.Tag
	// A TagOrder selects and orders the tags of a repository.
	TagOrder = metadb.TagOrder
	// A ManifestOrder orders the manifests of a repository.
	ManifestOrder = metadb.ManifestOrder
)

// A Put is a manifest that is to be stored.
type Put struct {
	Repository string
	MediaType  string // its Content-Type; "" if the payload names it
	Payload    []byte
	Digest     digest.Digest // that the payload must have; "" is its sha256
	Tags       []string      // set in the same transaction, last
	// Pending says that the tag, the index or the [ItemChange] that needs the manifest follows. Until then,
	// it is no item of the repository.
	Pending bool
	// Omitted are children that an index is stored without, because a platform filter omits
	// them. The index does not hold them, even if they are here. All others must be here.
	Omitted []digest.Digest
}
