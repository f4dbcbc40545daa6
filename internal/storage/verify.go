package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"syscall"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// A Pace waits until n more bytes may be read.
type Pace func(ctx context.Context, n int) error

// Unpaced allows all reads at once, until ctx ends.
func Unpaced(ctx context.Context, _ int) error { return ctx.Err() }

// Reasons why a blob is damaged, apart from the length of its file.
const (
	fileLost          = "its file is lost"
	contentChanged    = "its content changed on the disk"
	contentUnreadable = "the disk does not give its content back"
)

// readStep is how many bytes a check reads at a time.
const readStep = 256 << 10

// checkContent reads the file of a blob of size bytes, and returns the reason if it is damaged;
// "" is none.
func checkContent(
	ctx context.Context, blobs blob.Store, d digest.Digest, size int64, pace Pace,
) (reason string, err error) {
	r, err := openFromDisk(ctx, blobs, d)
	if errors.Is(err, blob.ErrNotExist) {
		return fileLost, nil
	}
	if err != nil {
		return unreadable(err)
	}
	defer r.Close()
	hash := d.Algorithm().Hash()
	buf := make([]byte, min(readStep, max(size, 1)))
	var have int64
	for {
		if err := pace(ctx, len(buf)); err != nil {
			return "", err
		}
		n, err := io.ReadFull(r, buf)
		hash.Write(buf[:n])
		have += int64(n)
		switch {
		case err == nil:
		case err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF):
			return unreadable(err)
		case have != size:
			return wrongLength(have, size), nil
		case digest.NewDigest(d.Algorithm(), hash) != d:
			return contentChanged, nil
		default:
			return "", nil
		}
	}
}

// openFromDisk opens the file of a blob, past the system's cache if the store can do that.
func openFromDisk(ctx context.Context, blobs blob.Store, d digest.Digest) (io.ReadCloser, error) {
	if store, ok := blobs.(blob.Rereader); ok {
		return store.Reread(ctx, d)
	}
	return blobs.Open(ctx, d)
}

// unreadable returns the reason if err says that the disk cannot read the content; else err.
func unreadable(err error) (reason string, _ error) {
	if errors.Is(err, syscall.EIO) {
		return contentUnreadable, nil
	}
	return "", err
}

func wrongLength(have, size int64) string {
	return fmt.Sprintf("its file has %d bytes, not %d", have, size)
}

// VerifyBlob reads the blob d again. If it is damaged, VerifyBlob takes it out of service and
// returns the reason. It ignores a blob that is not in service.
func (s *Storage) VerifyBlob(ctx context.Context, d digest.Digest, pace Pace) (reason string, err error) {
	row, err := s.blob(ctx, d)
	if errors.Is(err, metadb.ErrNotFound) {
		return "", nil
	}
	if err == nil {
		reason, err = checkContent(ctx, s.blobs, d, row.Size, pace)
	}
	if err != nil || reason == "" {
		return "", err
	}
	// The second check excludes a commit that came meanwhile.
	reason, err = s.takeOutOfService(ctx, d, func(ctx context.Context, size int64) (string, error) {
		return checkContent(ctx, s.blobs, d, size, Unpaced)
	})
	if errors.Is(err, metadb.ErrNotFound) {
		return "", nil
	}
	return reason, err
}

// VerifyManifest is [Storage.VerifyBlob] for a manifest. It also returns the size of the
// payload.
func (s *Storage) VerifyManifest(ctx context.Context, repository string,
	d digest.Digest) (size int64, reason string, err error) {
	size, whole, err := s.checkManifest(ctx, repository, d)
	if err != nil || whole {
		return size, "", err
	}
	err = s.write(ctx, func(tx *metadb.Tx) error {
		reason = ""
		again, err := tx.Manifest(repository, string(d))
		if err == nil {
			whole, err = isPayloadOf(&again, chunksIn(tx, &again))
		}
		if errors.Is(err, metadb.ErrNotFound) || err == nil && whole {
			return nil // it was replaced or deleted meanwhile
		}
		if err != nil {
			return err
		}
		reason = "its content changed in the database"
		damage := Damage{Repository: repository, Digest: string(d), Size: again.Size, Reason: reason, FoundAt: s.now()}
		_, err = tx.DamageManifest(damage)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil // another reader found it meanwhile
		}
		return err
	})
	if err == nil && reason != "" {
		s.cache.forgetRepository(repository)
		s.damageFound.Notify()
		s.log.Error("manifest is damaged, and out of service until it comes again", "repo", repository, "digest", d,
			"err", reason)
	}
	return size, reason, err
}

// checkManifest reports whether a manifest matches its digest. A manifest that is not in
// service counts as whole.
func (s *Storage) checkManifest(ctx context.Context, repository string,
	d digest.Digest) (size int64, whole bool, err error) {
	row, err := metadb.Read(ctx, s.db,
		func(tx *metadb.Tx) (Manifest, error) { return tx.Manifest(repository, string(d)) })
	if errors.Is(err, metadb.ErrNotFound) || err == nil && row.Damaged {
		return 0, true, nil
	}
	if err == nil {
		whole, err = isPayloadOf(&row, s.chunksOf(ctx, &row))
	}
	return row.Size, whole, err
}

// isContentOf reports whether content has the digest d, which may be invalid, because it can be
// damaged, too.
func isContentOf(d digest.Digest, content []byte) bool {
	_, err := oci.ParseDigest(string(d))
	return err == nil && d.Algorithm().FromBytes(content) == d
}

// checkPayload checks the payload of a manifest that was read. If it is damaged, the manifest
// is taken out of service, and the error is [oci.ErrManifestUnknown]. A payload in chunks is
// checked when its chunks are read.
func (s *Storage) checkPayload(ctx context.Context, m *Manifest) error {
	switch {
	case m.Damaged:
		return s.db.View(ctx, func(tx *metadb.Tx) error { return damagedManifest(tx, m.Repository, m.Digest) })
	case m.Size > metadb.MaxInRow:
		return nil
	}
	if whole, _ := isPayloadOf(m, nil); !whole {
		return s.damagedPayload(ctx, m)
	}
	return nil
}

// ReviveBlob puts a damaged blob back into service if its file is whole, and reports whether it
// is. A disk can fail for a while, and an operator can put a file back.
func (s *Storage) ReviveBlob(ctx context.Context, d digest.Digest, pace Pace) (bool, error) {
	damage, err := s.damageOf(ctx, d)
	if err != nil || damage == nil {
		return false, err
	}
	if reason, err := checkContent(ctx, s.blobs, d, damage.Size, pace); err != nil || reason != "" {
		return false, err
	}
	held, err := s.digests.acquire(ctx, string(d))
	if err != nil {
		return false, err
	}
	defer held.release()
	if reason, err := checkContent(ctx, s.blobs, d, damage.Size, Unpaced); err != nil || reason != "" {
		return false, err
	}
	healed := map[string]bool{}
	err = s.write(ctx, held.confirmed(func(tx *metadb.Tx) error {
		clear(healed)
		return s.putBlob(tx, d, damage.Size, healed)
	}))
	if err == nil {
		s.notifyWatchers(healed)
		s.log.Info("blob is whole again, and in service", "digest", d)
	}
	return err == nil, err
}

// ErrManyLost is returned, wrapped, if so many files are lost that a wrong or unmounted disk is
// more likely. Nothing is taken out of service then.
var ErrManyLost = errors.New("is the disk with the blobs mounted? Nothing was taken out of service")

const (
	// If more than manyLost files are lost, and more than one in manyLostShare, the error is
	// [ErrManyLost].
	manyLost      = 20
	manyLostShare = 4
	// maxLostAtOnce is how many blobs are taken out of service at a time, because they are
	// held in memory.
	maxLostAtOnce = 10_000
)

// CheckFiles checks the size of the file of every blob, without reading it, and takes those out
// of service whose files are lost or have another size. It returns their number.
func (s *Storage) CheckFiles(ctx context.Context) (lost int, err error) {
	var missing []metadb.Blob
	after, all, absent := "", 0, 0
	for {
		rows, err := metadb.Read(ctx, s.db.Long(), func(tx *metadb.Tx) ([]metadb.Blob, error) {
			return tx.Blobs(after, page)
		})
		if err != nil {
			return 0, err
		}
		if len(rows) == 0 {
			break
		}
		for _, row := range rows {
			has, err := s.hasFile(ctx, digest.Digest(row.Digest), row.Size)
			if err != nil {
				return 0, err
			}
			if after = row.Digest; has {
				continue
			}
			if absent++; absent <= maxLostAtOnce {
				missing = append(missing, row)
			}
		}
		all += len(rows)
	}
	if absent > max(manyLost, all/manyLostShare) {
		return 0, fmt.Errorf("check files: %d of %d files of blobs are lost: %w", absent, all, ErrManyLost)
	}
	for _, row := range missing {
		if err := s.checkFile(ctx, row); errors.Is(err, blob.ErrNotExist) {
			lost++
		} else if err != nil {
			return lost, err
		}
	}
	return lost, nil
}
