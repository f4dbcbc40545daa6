package storage

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// How many bytes of an upload are received at most, and for how long, before they are made durable, so
// that a client can resume after a crash in the middle of a large request. On a slow link the time
// counts, as soon as there are enough bytes, which are more for a [blob.Coarse] store.
const (
	checkpointEvery = 32 << 20
	checkpointTime  = time.Second
	checkpointLeast = 256 << 10
)

// copyBuffer is the size of one read from a client, in bytes.
const copyBuffer = 128 << 10

// An Upload is a blob that a client is pushing. After a restart it has all bytes that
// [Upload.Append] had returned for. It has one user at a time, who must call [Upload.Close].
type Upload struct {
	s       *Storage
	user    *uploadUser
	row     metadb.Upload
	partial blob.Partial
	hash    hash.Hash // sha256 of the first size bytes
	size    int64
	saved   int64 // the size in the stored row
	savedAt metadb.Uptime
	held    *held
	release func()
}

// StartUpload creates an empty upload into repository.
func (s *Storage) StartUpload(ctx context.Context, repository string) (*Upload, error) {
	if err := oci.CheckRepository(repository); err != nil {
		return nil, err
	}
	if err := s.checkReserve(); err != nil {
		return nil, err
	}
	u := &Upload{
		s:    s,
		row:  metadb.Upload{ID: strings.ToLower(rand.Text()), Repository: repository},
		hash: sha256.New(),
	}
	held, err := s.partials.acquire(ctx, uploadPartial(u.row.ID))
	if err != nil {
		return nil, err
	}
	u.use(u.row.ID, held)
	u.partial, err = s.blobs.Partial(ctx, uploadPartial(u.row.ID))
	if err = s.mapDiskFull(err); err == nil {
		err = u.makeDurable(ctx)
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// ResumeUpload opens the upload id of repository with all that it has received. The error is
// [oci.ErrBlobUploadUnknown] if there is none, and [oci.ErrTooManyRequests] while another
// request uses it; see also [Storage.TakeUpload].
func (s *Storage) ResumeUpload(ctx context.Context, repository, id string) (*Upload, error) {
	held, err := s.partials.tryAcquire(ctx, uploadPartial(id))
	if err != nil {
		return nil, err
	}
	if held == nil {
		return nil, errUploadInUse
	}
	u := &Upload{s: s, hash: sha256.New()}
	u.use(id, held)
	if err := u.restore(ctx, repository, id); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// use registers the user of an upload that is locked.
func (u *Upload) use(id string, held *held) {
	u.held = held
	u.user = u.s.uploadUsers.begin(id)
	u.release = func() {
		held.release()
		u.s.uploadUsers.leave(id, u.user)
	}
}

// restore reads the row, and truncates the file to the size in the row.
func (u *Upload) restore(ctx context.Context, repository, id string) (err error) {
	if u.row, err = u.s.uploadRow(ctx, repository, id); err != nil {
		return mapNotFound(err, oci.ErrBlobUploadUnknown)
	}
	readable := setState(u.hash, u.row.HashState) == nil
	u.partial, err = u.s.recoverPartial(ctx, uploadPartial(id), digest.NewDigest(digest.SHA256, u.hash), u.row.Hashed)
	if err != nil {
		return u.s.mapDiskFull(err)
	}
	have, err := u.partial.Size()
	if err != nil {
		return err
	}
	if have < u.row.Hashed {
		return oci.ErrBlobUploadUnknown.With("upload %s lost its content", id)
	}
	u.size, u.saved = u.row.Hashed, u.row.Hashed
	if !readable { // another version of the program wrote the state
		u.hash.Reset()
		if _, err := io.Copy(u.hash, io.NewSectionReader(u.partial, 0, u.size)); err != nil {
			return fmt.Errorf("restore upload %s: %w", id, err)
		}
	}
	return u.partial.Truncate(u.size)
}

func (s *Storage) uploadRow(ctx context.Context, repository, id string) (metadb.Upload, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (metadb.Upload, error) { return tx.Upload(repository, id) })
}

// uploadPartial returns the name of an upload's partial in the blob store.
func uploadPartial(id string) string { return "upload-" + id }

// ID returns the id of the upload in its URL.
func (u *Upload) ID() string { return u.row.ID }

// Size returns the number of bytes that the upload has.
func (u *Upload) Size() int64 { return u.size }

// Append appends all of r, and returns the number of bytes and the first error of r or of the
// disk. Exactly these bytes are durable when Append returns, even with an error, so that the
// client can resume there.
func (u *Upload) Append(ctx context.Context, r io.Reader) (int64, error) {
	start := u.size
	ctx = context.WithoutCancel(ctx) // the client may have disconnected; its bytes are kept
	err := u.copy(ctx, r)
	saveErr := u.makeDurable(ctx)
	if errors.Is(saveErr, metadb.ErrUncertain) { // the row may need the bytes, which are in the file
		return u.saved - start, errors.Join(err, saveErr)
	}
	if saveErr != nil {
		err = errors.Join(err, saveErr, u.rewind())
	}
	return u.size - start, err
}

// copy appends r to the file, and makes the bytes durable from time to time.
func (u *Upload) copy(ctx context.Context, r io.Reader) error {
	buf := make([]byte, copyBuffer)
	for {
		n, readErr := u.user.read(r, buf, u.size)
		if n > 0 {
			if err := u.s.checkReserve(); err != nil {
				return err
			}
			if _, err := u.partial.WriteAt(buf[:n], u.size); err != nil {
				return u.s.mapDiskFull(errors.Join(fmt.Errorf("write upload %s: %w", u.row.ID, err),
					u.partial.Truncate(u.size)))
			}
			u.hash.Write(buf[:n])
			u.size += int64(n)
			if u.checkpointIsDue() {
				if err := u.makeDurable(ctx); err != nil {
					return err
				}
			}
		}
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return fmt.Errorf("read upload %s: %w", u.row.ID, readErr)
		}
	}
}

// checkpointIsDue reports whether the bytes that came since the last checkpoint must be made durable.
func (u *Upload) checkpointIsDue() bool {
	n := u.size - u.saved
	return n >= checkpointEvery || n >= u.s.least && u.s.Uptime().Sub(u.savedAt) >= checkpointTime
}

// rewind truncates the file to the size in the row. After a failed sync, the bytes after that
// may be anything.
func (u *Upload) rewind() error {
	u.size = u.saved
	if err := setState(u.hash, u.row.HashState); err != nil {
		return fmt.Errorf("rewind upload %s: %w", u.row.ID, err)
	}
	return u.partial.Truncate(u.size)
}

// stateOf returns the state of a hash, from which [setState] continues. The standard library's
// algorithms never fail to encode theirs.
func stateOf(h hash.Hash) []byte {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic(err)
	}
	return state
}

func setState(h hash.Hash, state []byte) error {
	return h.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// makeDurable syncs the written bytes to the disk, and then writes the row.
func (u *Upload) makeDurable(ctx context.Context) error {
	if u.size > u.saved {
		if err := u.partial.Sync(); err != nil {
			return u.s.mapDiskFull(fmt.Errorf("sync upload %s: %w", u.row.ID, err))
		}
	}
	if u.size == u.saved && u.row.HashState != nil {
		return nil
	}
	row := u.row
	row.Hashed, row.HashState, row.UpdatedAt = u.size, stateOf(u.hash), u.s.Uptime()
	if err := u.s.write(ctx, u.held.confirmed(func(tx *metadb.Tx) error {
		return tx.PutUpload(row)
	})); err != nil {
		return err
	}
	u.row, u.saved, u.savedAt = row, u.size, row.UpdatedAt
	return nil
}

// Commit makes the upload the blob d of its repository, if the content matches. Otherwise the
// upload is deleted, and the error is [oci.ErrDigestInvalid]. After any other error the upload
// is unchanged. It is closed in each case.
func (u *Upload) Commit(ctx context.Context, d digest.Digest) error {
	defer u.Close()
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return err
	}
	got, err := u.digest(d.Algorithm())
	if err != nil {
		return err
	}
	if got != d {
		if err := u.Cancel(ctx); err != nil {
			return err
		}
		return oci.ErrDigestInvalid.With("content has digest %s, not %s", got, d)
	}
	if err := u.partial.Sync(); err != nil {
		return u.s.mapDiskFull(fmt.Errorf("sync upload %s: %w", u.row.ID, err))
	}
	return u.s.commitBlobs(ctx, []syncedPartial{{uploadPartial(u.row.ID), d, u.size, []string{u.row.Repository}}},
		u.held.confirmed(func(tx *metadb.Tx) error {
			return mapNotFound(tx.DeleteUpload(u.row.ID), oci.ErrBlobUploadUnknown)
		}))
}

// digest returns the digest of the content. For other algorithms than sha256 it reads all of it
// again.
func (u *Upload) digest(algorithm digest.Algorithm) (digest.Digest, error) {
	if algorithm == digest.SHA256 {
		return digest.NewDigest(algorithm, u.hash), nil
	}
	d, err := algorithm.FromReader(io.NewSectionReader(u.partial, 0, u.size))
	if err != nil {
		return "", fmt.Errorf("read upload %s: %w", u.row.ID, err)
	}
	return d, nil
}

// Cancel deletes the upload and closes it.
func (u *Upload) Cancel(ctx context.Context) error {
	defer u.Close()
	if err := u.partial.Truncate(0); err != nil { // a file that is open keeps its disk space
		return fmt.Errorf("cancel upload %s: %w", u.row.ID, err)
	}
	return mapNotFound(u.s.removeUpload(ctx, u.row.ID), oci.ErrBlobUploadUnknown)
}

// removeUpload deletes the content of an upload and then its row: on a full disk, the row
// cannot be deleted before. A row that is left over does no harm.
func (s *Storage) removeUpload(ctx context.Context, id string) error {
	if err := s.blobs.Discard(ctx, uploadPartial(id)); err != nil {
		return err
	}
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.DeleteUpload(id) })
}

// Close releases the upload, which keeps its bytes. It may be called more than once.
func (u *Upload) Close() error {
	if u.release == nil {
		return nil
	}
	defer func() { u.release(); u.release = nil }()
	if u.partial == nil {
		return nil
	}
	return u.partial.Close()
}
