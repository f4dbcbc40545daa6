package storage

import (
	"context"
	"errors"
	"io/fs"
	"os"
)

// IsFileFailure reports whether err is the failure of one file of the blob store, such as an
// input/output error, and not of the database or of the whole disk. It writes a small file to
// find out: if that fails, the disk is at fault.
func (s *Storage) IsFileFailure(ctx context.Context, err error) bool {
	_, isPath := errors.AsType[*fs.PathError](err)
	_, isLink := errors.AsType[*os.LinkError](err)
	return (isPath || isLink) && s.tryDisk(context.WithoutCancel(ctx)) == nil
}

// tryDisk writes a small file to the disk, syncs it, and deletes it.
func (s *Storage) tryDisk(ctx context.Context) error {
	id := smallPartial()
	defer s.partials.lock(id)() // only this process knows it
	p, err := s.blobs.Partial(ctx, id)
	if err != nil {
		return err
	}
	_, err = p.WriteAt([]byte(id), 0)
	if err == nil {
		err = p.Sync()
	}
	return errors.Join(err, p.Close(), s.blobs.Discard(ctx, id))
}
