package storage

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// OpenBlob opens the blob d of repository; the result is an *os.File if the blob store keeps
// files. The error is [oci.ErrBlobUnknown] if the repository does not have the blob, and
// [oci.ErrDenied] if reading the repository is locked. While the database does not answer, it opens the
// blobs of manifests in the cache.
func (s *Storage) OpenBlob(ctx context.Context, repository string,
	d digest.Digest) (io.ReadSeekCloser, blob.Info, error) {
	return s.openBlob(ctx, repository, d, NoRead)
}

// BlobURL returns a URL from which anybody can read the blob d of repository for a few minutes; ""
// if the blob store has none. The errors are those of [Storage.OpenBlob].
func (s *Storage) BlobURL(ctx context.Context, repository string, d digest.Digest) (string, error) {
	return s.blobURL(ctx, repository, d, NoRead)
}

// blobURL is [Storage.BlobURL]. It respects only those locks of the repository that are in respected.
func (s *Storage) blobURL(ctx context.Context, repository string, d digest.Digest, respected Locks) (string, error) {
	store, ok := s.blobs.(blob.Linker)
	if !ok {
		return "", nil
	}
	row, err := s.repositoryBlob(ctx, repository, d)
	if err != nil {
		return "", err
	}
	if row.Locks&respected != 0 {
		return "", errLocked("reading repository "+repository, NoRead)
	}
	now := s.now()
	if link := s.links.of(d, now); link != "" {
		return link, nil
	}
	if err := s.checkFile(ctx, row.Blob); err != nil {
		return "", mapNotFound(err, oci.ErrBlobUnknown)
	}
	link, err := store.Link(ctx, d, linkLifetime)
	if err == nil {
		s.links.add(d, link, now)
	}
	return link, err
}

// openBlob is [Storage.OpenBlob]. It respects only those locks of the repository that are in respected.
func (s *Storage) openBlob(
	ctx context.Context, repository string, d digest.Digest, respected Locks,
) (io.ReadSeekCloser, blob.Info, error) {
	row, err := s.repositoryBlob(ctx, repository, d)
	if errors.Is(err, metadb.ErrUnavailable) {
		if r, info := s.openCached(ctx, repository, d, respected); r != nil {
			return r, info, nil
		}
	}
	if err != nil {
		return nil, blob.Info{}, err
	}
	if row.Locks&respected != 0 {
		return nil, blob.Info{}, errLocked("reading repository "+repository, NoRead)
	}
	r, err := s.openFile(ctx, row.Blob)
	if errors.Is(err, blob.ErrNotExist) {
		_, err = s.repositoryBlob(ctx, repository, d) // whose error says why
		err = cmp.Or[error](err, oci.ErrBlobUnknown)
	}
	if err != nil {
		return nil, blob.Info{}, err
	}
	return r, infoOf(row), nil
}

// openCached opens a blob without the database, if the cache has a manifest of repository that needs it:
// such a blob is linked to the repository as long as the manifest is there. nil is none.
func (s *Storage) openCached(
	ctx context.Context, repository string, d digest.Digest, respected Locks,
) (io.ReadSeekCloser, blob.Info) {
	size := int64(-1)
	holder := s.cache.holder(repository, func(m *Manifest) bool {
		if m.Locks&respected != 0 || !bytes.Contains(m.Payload, []byte(d)) {
			return false
		}
		parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
		if err != nil {
			return false
		}
		blobs := parsed.Layers
		if parsed.Config != nil {
			blobs = append(blobs, *parsed.Config)
		}
		for _, b := range blobs {
			if b.Digest == d {
				size = b.Size
			}
		}
		return size >= 0
	})
	if holder == nil {
		return nil, blob.Info{}
	}
	info, err := s.blobs.Stat(ctx, d)
	if err != nil || info.Size != size {
		return nil, blob.Info{}
	}
	r, err := s.blobs.Open(ctx, d)
	if err != nil {
		return nil, blob.Info{}
	}
	return r, info
}

// openFile opens the file of a blob. If the file is lost or has another size, the blob is taken
// out of service, and the error is [blob.ErrNotExist].
func (s *Storage) openFile(ctx context.Context, row metadb.Blob) (io.ReadSeekCloser, error) {
	r, err := s.blobs.Open(ctx, digest.Digest(row.Digest))
	if err == nil {
		var size int64
		if size, err = r.Seek(0, io.SeekEnd); err == nil && size == row.Size {
			_, err = r.Seek(0, io.SeekStart)
			return r, err
		}
		err = errors.Join(err, r.Close())
	}
	if err == nil || errors.Is(err, blob.ErrNotExist) {
		err = s.checkFile(ctx, row)
	}
	if err == nil { // the file came back meanwhile
		return s.blobs.Open(ctx, digest.Digest(row.Digest))
	}
	return nil, err
}

// StatBlob describes the blob d of repository, or returns [oci.ErrBlobUnknown]. A blob that no
// manifest of the repository refers to yet is safe from collection for at least half a grace
// period from now, because a client that finds it here does not upload it, and then pushes a
// manifest that needs it.
func (s *Storage) StatBlob(ctx context.Context, repository string, d digest.Digest) (blob.Info, error) {
	referenced := false
	row, err := metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (row metadb.RepositoryBlob, err error) {
		if row, err = tx.RepositoryBlob(repository, string(d)); err == nil {
			referenced, err = tx.BlobReferenced(repository, string(d))
		}
		if errors.Is(err, metadb.ErrNotFound) {
			err = unknownBlob(tx, repository, d)
		}
		return row, err
	})
	if err == nil {
		err = s.checkFile(ctx, row.Blob)
	}
	// A young link is not renewed, so that few calls cost a write.
	if err == nil && !referenced && s.Uptime().Sub(row.LinkedAt) > s.grace/2 {
		err = s.write(ctx, func(tx *metadb.Tx) error {
			if _, err := tx.RepositoryBlob(repository, string(d)); err != nil {
				return err
			}
			return tx.LinkBlob(repository, string(d), s.Uptime())
		})
	}
	if err != nil {
		return blob.Info{}, mapNotFound(err, oci.ErrBlobUnknown)
	}
	return infoOf(row), nil
}

func (s *Storage) repositoryBlob(ctx context.Context, repository string,
	d digest.Digest) (metadb.RepositoryBlob, error) {
	return metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (metadb.RepositoryBlob, error) {
		row, err := tx.RepositoryBlob(repository, string(d))
		if errors.Is(err, metadb.ErrNotFound) {
			err = unknownBlob(tx, repository, d)
		}
		return row, err
	})
}

func infoOf(row metadb.RepositoryBlob) blob.Info {
	return blob.Info{Digest: digest.Digest(row.Digest), Size: row.Size, Modified: row.CreatedAt}
}

// HasBlob reports whether the blob d is here, whatever repositories link it.
func (s *Storage) HasBlob(ctx context.Context, d digest.Digest) (bool, error) {
	row, err := s.blob(ctx, d)
	if err == nil {
		err = s.checkFile(ctx, row)
	}
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		return s.reviveLost(ctx, d)
	case errors.Is(err, blob.ErrNotExist):
		return false, nil
	}
	return err == nil, err
}

// blob returns the row of the blob d, whatever repositories link it.
func (s *Storage) blob(ctx context.Context, d digest.Digest) (metadb.Blob, error) {
	return metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (metadb.Blob, error) { return tx.Blob(string(d)) })
}

// hasFile reports whether the file of the blob d is in its place and has size bytes. A file can
// be lost by a repair of the disk or an incomplete backup. The next push or sync brings it
// again, and must not find that the blob is here.
func (s *Storage) hasFile(ctx context.Context, d digest.Digest, size int64) (bool, error) {
	info, err := s.blobs.Stat(ctx, d)
	if errors.Is(err, blob.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.Size == size, err
}

// LinkBlob lets repository serve the blob d, which another repository has. If there is no such
// blob, the error is [oci.ErrBlobUnknown].
func (s *Storage) LinkBlob(ctx context.Context, repository string, d digest.Digest) error {
	if err := oci.CheckRepository(repository); err != nil {
		return err
	}
	return s.write(ctx, func(tx *metadb.Tx) error {
		if _, err := tx.Blob(string(d)); err != nil {
			return mapNotFound(err, oci.ErrBlobUnknown)
		}
		return s.link(tx, repository, d)
	})
}

// Mount lets repository serve the blob d of the repository from. It reports whether from has
// the blob and may be read.
func (s *Storage) Mount(ctx context.Context, repository, from string, d digest.Digest) (bool, error) {
	row, err := s.repositoryBlob(ctx, from, d)
	if err == nil {
		err = mapNotFound(s.checkFile(ctx, row.Blob), oci.ErrBlobUnknown)
	}
	if errors.Is(err, oci.ErrBlobUnknown) || err == nil && row.Locks&NoRead != 0 {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	err = s.LinkBlob(ctx, repository, d)
	if errors.Is(err, oci.ErrBlobUnknown) {
		return false, nil // it was collected meanwhile
	}
	return err == nil, err
}

func (s *Storage) link(tx *metadb.Tx, repository string, d digest.Digest) error {
	if err := tx.TouchRepository(repository, s.now()); err != nil {
		return err
	}
	return tx.LinkBlob(repository, string(d), s.Uptime())
}

// DeleteBlob removes the blob d from repository. A later collection deletes its content if no
// repository has it. A blob that a manifest of the repository needs is not removed: the error
// is [oci.ErrDenied].
func (s *Storage) DeleteBlob(ctx context.Context, repository string, d digest.Digest, notes ...Note) error {
	return s.remove(ctx, func(tx *metadb.Tx) error {
		if _, err := tx.Repository(repository); err != nil {
			return mapNotFound(err, oci.ErrBlobUnknown)
		}
		if err := checkRemovable(tx, repository); err != nil {
			return err
		}
		if _, err := tx.RepositoryBlob(repository, string(d)); err != nil {
			return mapNotFound(err, oci.ErrBlobUnknown) // even if a manifest refers to it
		}
		parent, err := tx.ParentOf(repository, string(d))
		if err != nil {
			return err
		}
		if parent != "" {
			return oci.ErrDenied.With("blob is part of manifest %s; delete that first", parent)
		}
		if err := tx.UnlinkBlob(repository, string(d)); err != nil {
			return mapNotFound(err, oci.ErrBlobUnknown)
		}
		return writeNotes(tx, notes)
	})
}
