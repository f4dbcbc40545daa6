package storage

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage/blob"
)

// defaultGrace is the grace period: the age at which content that nothing refers to is deleted.
const defaultGrace = time.Hour

// longestPush is how long links without references are kept while their repository is pushed to. It
// is the longest time that a push may take from its first layer to its manifest. Without a
// limit, a busy repository would keep the layers of all abandoned pushes.
const longestPush = 24 * time.Hour

// The age at which an upload that is not written to is deleted: a week, and only the grace
// period on the day after the disk was full. Otherwise, an upload that filled the disk would
// block all others for a week, because the usual clients start again instead of resuming.
const (
	uploadAge = 7 * 24 * time.Hour
	fullFor   = 24 * time.Hour
)

// Collected is what a garbage collection deleted.
type Collected struct {
	Blobs   int   // including orphaned files
	Bytes   int64 // their size
	Uploads int   // abandoned uploads
}

// Collect deletes the blobs that are older than the grace period and that no manifest refers to
// and no lease holds; uploads without a write for a week, or for the grace period if the disk
// was full; and files that no row has known for [OrphanAge]. It does not stop the service: a
// blob that is pushed or mounted at the same moment is either kept, or deleted before the
// client gets its answer.
func (s *Storage) Collect(ctx context.Context) (c Collected, err error) {
	// The steps that delete files before rows run first: on a full disk, they make the
	// space that the others need.
	var failed failures
	for _, step := range []func(context.Context, *Collected) error{
		s.endDeletions, s.collectOrphans, s.collectUploads, s.unlinkUnreferenced, s.collectTransfers, s.collectBlobs,
		s.cleanStore, func(ctx context.Context, _ *Collected) error { return s.SaveUptime(ctx) },
	} {
		if ctx.Err() != nil {
			break
		}
		failed.note(step(ctx, &c))
	}
	if err := s.db.KeepReserve(); err != nil {
		s.log.Warn("there is no room for the reserve, and nothing is stored until there is", "err", err)
	}
	if err := failed.join(context.Cause(ctx)); err != nil {
		return c, fmt.Errorf("collect garbage: %w", err)
	}
	return c, nil
}

// leftoverAge is the age at which the leftovers of interrupted operations of the blob store are
// deleted. No operation takes so long.
const leftoverAge = 24 * time.Hour

// cleanStore deletes what interrupted operations left in the blob store.
func (s *Storage) cleanStore(ctx context.Context, _ *Collected) error {
	store, ok := s.blobs.(blob.Cleaner)
	if !ok {
		return nil
	}
	n, err := store.Clean(ctx, s.now().Add(-leftoverAge))
	if n > 0 {
		s.log.Info("leftovers of interrupted writes are deleted from the blob store", "leftovers", n)
	}
	return err
}

// failures are the errors of a walk that continues after errors, so that all files are deleted
// that can be deleted.
type failures struct {
	first error
	more  int
}

// note keeps an error, and reports whether err is nil.
func (f *failures) note(err error) (ok bool) {
	if err != nil && f.first == nil {
		f.first = err
	} else if err != nil {
		f.more++
	}
	return err == nil
}

// join joins all errors with err, with which the walk ended.
func (f *failures) join(err error) error {
	if f.more > 0 {
		return errors.Join(fmt.Errorf("%w, and %d times more", f.first, f.more), err)
	}
	return errors.Join(f.first, err)
}

func (s *Storage) unlinkUnreferenced(ctx context.Context, _ *Collected) error {
	return s.remove(ctx, func(tx *metadb.Tx) error {
		now := s.Uptime()
		if err := tx.DeleteExpiredLeases(now); err != nil {
			return err
		}
		stale := metadb.StaleLink{
			Before: now.Add(-s.grace), BeforePush: now.Add(-longestPush), Written: now.Add(-s.uploadProtection()),
		}
		if _, err := tx.UnlinkUnreferenced(stale, now); err != nil {
			return err
		}
		return tx.ForgetDamages()
	})
}

// wasFull reports whether the disk was full in the last [fullFor].
func (s *Storage) wasFull() bool {
	at := s.fullAt.Load()
	return at != nil && s.Uptime().Sub(*at) < fullFor
}

// uploadProtection returns how long after its last write an upload protects the links of its
// repository.
func (s *Storage) uploadProtection() time.Duration {
	if s.wasFull() {
		return s.grace
	}
	return longestPush
}

func (s *Storage) collectUploads(ctx context.Context, c *Collected) error {
	age := uploadAge
	if s.wasFull() {
		age = s.grace
	}
	var failed failures
	before, after := s.Uptime().Add(-age), ""
	for {
		stale, err := metadb.Read(ctx, s.db.Long(), func(tx *metadb.Tx) ([]metadb.Upload, error) {
			return tx.StaleUploads(before, after, page)
		})
		if err != nil || len(stale) == 0 {
			return failed.join(err)
		}
		for _, row := range stale {
			after = row.ID
			gone, err := s.collectUpload(ctx, row.Repository, row.ID, before)
			if failed.note(err) && gone {
				c.Uploads++
			}
		}
	}
}

func (s *Storage) collectUpload(
	ctx context.Context, repository, id string, before metadb.Uptime,
) (gone bool, err error) {
	held, err := s.partials.tryAcquire(ctx, uploadPartial(id))
	if held == nil {
		return false, err // it was written to meanwhile
	}
	defer held.release()
	row, err := s.uploadRow(ctx, repository, id)
	if errors.Is(err, metadb.ErrNotFound) || err == nil && row.UpdatedAt >= before {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, s.removeUpload(ctx, id)
}

func (s *Storage) collectBlobs(ctx context.Context, c *Collected) error {
	var failed failures
	for {
		garbage, err := metadb.Read(ctx, s.db.Long(), func(tx *metadb.Tx) ([]metadb.Blob, error) {
			now := s.Uptime()
			return tx.Garbage(now.Add(-s.grace), now, page)
		})
		if err != nil || len(garbage) == 0 {
			return failed.join(err)
		}
		rows := 0
		for _, b := range garbage {
			gone, err := s.collectBlob(ctx, digest.Digest(b.Digest))
			if gone {
				rows++
			}
			if failed.note(err) && gone {
				c.Blobs++
				c.Bytes += b.Size
			}
		}
		if rows == 0 {
			return failed.join(nil) // the others are in use again
		}
	}
}

// collectBlob deletes the row and then the file of a blob if it is still garbage in the
// transaction that deletes the row. It reports whether it deleted the row. It locks the digest,
// so that no commit of the same blob comes in between.
func (s *Storage) collectBlob(ctx context.Context, d digest.Digest) (gone bool, err error) {
	held, err := s.digests.acquire(ctx, string(d))
	if err != nil {
		return false, err
	}
	defer held.release()
	begun := time.Now()
	err = s.remove(ctx, held.confirmed(func(tx *metadb.Tx) error {
		now := s.Uptime()
		if gone, err = tx.DeleteIfGarbage(string(d), now.Add(-s.grace), now); err != nil || !gone {
			return err
		}
		return s.beginDeletion(tx, d)
	}))
	if err != nil || !gone {
		return false, err
	}
	return true, s.deleteFile(ctx, begun, d)
}

// ownsPartial reports whether an upload or a transfer has the partial id.
func ownsPartial(tx *metadb.Tx, id string) (bool, error) {
	if upload, ok := strings.CutPrefix(id, "upload-"); ok {
		return tx.HasUpload(upload)
	}
	d, ok := transferOf(id)
	if !ok {
		return false, nil
	}
	_, err := tx.Transfer(string(d))
	if errors.Is(err, metadb.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Lease protects blobs from collection for ttl from now, in the name of holder. The blobs need
// not be stored yet.
func (s *Storage) Lease(ctx context.Context, holder string, ttl time.Duration, digests ...digest.Digest) error {
	expires := s.Uptime().Add(ttl)
	return s.write(ctx, func(tx *metadb.Tx) error {
		for _, d := range digests {
			if err := tx.Lease(holder, string(d), expires); err != nil {
				return err
			}
		}
		return nil
	})
}

// Release deletes every lease of holder.
func (s *Storage) Release(ctx context.Context, holder string) error {
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.Release(holder) })
}

// ReleaseStale deletes the leases of holder that it has not renewed since the given moment. ttl
// is the duration of each of its leases.
func (s *Storage) ReleaseStale(ctx context.Context, holder string, since metadb.Uptime, ttl time.Duration) error {
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.ReleaseBefore(holder, since.Add(ttl)) })
}
