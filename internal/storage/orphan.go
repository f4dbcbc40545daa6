package storage

import (
	"context"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// OrphanAge is how long a file is kept that no row knows. A crash can leave such a file. But if
// there are many, the database is not the one that belongs to the files, and an operator has
// this long to restore the right one. The files stay in their places, so that they can be used
// at once. If the disk was full, they are kept for the grace period.
const OrphanAge = 7 * 24 * time.Hour

// collectOrphans records the files without a row, and deletes those that were recorded long
// ago.
func (s *Storage) collectOrphans(ctx context.Context, c *Collected) error {
	var failed failures
	failed.note(s.noteOrphans(ctx))
	age := s.orphans
	if s.wasFull() {
		age = s.grace
	}
	before, after, back := s.Uptime().Add(-age), "", 0
	for {
		orphans, err := metadb.Read(ctx, s.db.Long(), func(tx *metadb.Tx) ([]metadb.Orphan, error) {
			return tx.Orphans(after, page)
		})
		if err != nil || len(orphans) == 0 {
			if back > 0 {
				s.log.Info("files without a row have a row again", "files", back)
			}
			return failed.join(err)
		}
		after = orphans[len(orphans)-1].Name
		owned, err := s.collectSomeOrphans(ctx, orphans, before, c)
		back += owned
		failed.note(err)
	}
}

// collectSomeOrphans deletes those of the files that were recorded before the given moment. It
// deletes the records of files that have a row again, and returns their number.
func (s *Storage) collectSomeOrphans(
	ctx context.Context, orphans []metadb.Orphan, before metadb.Uptime, c *Collected,
) (back int, err error) {
	var done []string
	var failed failures
	for _, o := range orphans {
		owned, gone, err := s.collectOrphan(ctx, o, before, c)
		if owned {
			back++
		}
		if failed.note(err) && (owned || gone) {
			done = append(done, o.Name)
		}
	}
	if len(done) == 0 {
		return back, failed.join(nil)
	}
	return back, failed.join(s.remove(ctx, func(tx *metadb.Tx) error { return tx.DeleteOrphans(done...) }))
}

// noteOrphans records when each file without a row was first found.
func (s *Storage) noteOrphans(ctx context.Context) error {
	var found []metadb.Orphan
	files, bytes := 0, int64(0)
	flush := func() error {
		err := s.remove(ctx, func(tx *metadb.Tx) error {
			for _, o := range found {
				if err := tx.PutOrphan(o); err != nil {
					return err
				}
			}
			return nil
		})
		found = found[:0]
		return err
	}
	note := func(name string, size int64) error {
		held, err := s.lockFile(ctx, name)
		if held == nil {
			return err // its row may not be written yet
		}
		defer held.release()
		isNew, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (bool, error) {
			known, err := ownsFile(tx, name)
			if err == nil && !known {
				known, err = tx.IsOrphan(name)
			}
			return !known, err
		})
		if err != nil || !isNew {
			return err
		}
		files, bytes = files+1, bytes+size
		if found = append(found, metadb.Orphan{Name: name, Since: s.Uptime()}); len(found) < page {
			return nil
		}
		return flush()
	}
	err := s.blobs.Walk(ctx, func(info blob.Info) error { return note(string(info.Digest), info.Size) })
	if err == nil {
		err = s.blobs.WalkPartials(ctx, note)
	}
	if err == nil && len(found) > 0 {
		err = flush()
	}
	if files > 0 {
		s.log.Warn("files that no row knows are kept for a while", "files", files, "bytes", bytes, "for", s.orphans)
	}
	return err
}

// collectOrphan deletes a file that was recorded before the given moment, unless it has a row
// now.
func (s *Storage) collectOrphan(
	ctx context.Context, o metadb.Orphan, before metadb.Uptime, c *Collected,
) (owned, gone bool, err error) {
	held, err := s.lockFile(ctx, o.Name)
	if held == nil {
		return false, false, err
	}
	defer held.release()
	d, isBlob := orphanBlob(o.Name)
	owned, err = metadb.Read(ctx, s.db, func(tx *metadb.Tx) (bool, error) { return ownsFile(tx, o.Name) })
	if err != nil || owned || !isBlob && o.Since >= before {
		return owned, false, err
	}
	if !isBlob {
		return false, true, s.blobs.Discard(ctx, o.Name)
	}
	info, err := s.blobs.Stat(ctx, d)
	if errors.Is(err, blob.ErrNotExist) {
		return false, true, nil
	}
	if err != nil || o.Since >= before {
		return false, false, err
	}
	begun := time.Now()
	err = s.remove(ctx, held.confirmed(func(tx *metadb.Tx) error { return s.beginDeletion(tx, d) }))
	if err == nil {
		err = s.deleteFile(ctx, begun, d)
	}
	if err == nil {
		c.Blobs++
		c.Bytes += info.Size
	}
	return false, true, err
}

// lockFile locks a file. A commit of its digest has written its row before, or waits. For a
// partial, the result is nil while it is in use.
func (s *Storage) lockFile(ctx context.Context, name string) (*held, error) {
	if _, isBlob := orphanBlob(name); isBlob {
		return s.digests.acquire(ctx, name)
	}
	return s.partials.tryAcquire(ctx, name)
}

// orphanBlob returns the digest that is a file's name, if the file is a blob's.
func orphanBlob(name string) (digest.Digest, bool) {
	d, err := oci.ParseDigest(name)
	return d, err == nil
}

// ownsFile reports whether the file belongs to a blob, an upload or a transfer.
func ownsFile(tx *metadb.Tx, name string) (bool, error) {
	if d, ok := orphanBlob(name); ok {
		return tx.KnowsBlob(string(d)) // a transfer moves back the file that a crash left in the blob's place
	}
	return ownsPartial(tx, name)
}
