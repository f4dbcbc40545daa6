package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"ferry/internal/storage/blob"
)

// Clean implements [blob.Cleaner]. After a crash there may be multipart uploads of commits, objects of
// a partial that its index does not name, and the object of a [Store.Check].
func (s *Store) Clean(ctx context.Context, before time.Time) (n int, err error) {
	for _, clean := range []func(context.Context, time.Time) (int, error){
		s.cleanUploads, s.cleanPartials, s.cleanChecks,
	} {
		more, err := clean(ctx, before)
		if n += more; err != nil {
			return n, err
		}
	}
	return n, nil
}

// cleanUploads ends multipart uploads.
func (s *Store) cleanUploads(ctx context.Context, before time.Time) (n int, err error) {
	ctx, cancel := context.WithCancel(ctx) // ends the listing
	defer cancel()
	for _, dir := range []string{"blobs/", "partials/"} {
		for u := range s.ListIncompleteUploads(ctx, s.bucket, s.prefix+dir, true) {
			if u.Err != nil {
				return n, fmt.Errorf("list multipart uploads: %w", s.convert(ctx, u.Err))
			}
			if !u.Initiated.Before(before) {
				continue
			}
			if err := s.abort(ctx, strings.TrimPrefix(u.Key, s.prefix), u.UploadID); ignoreMissing(err) != nil {
				return n, fmt.Errorf("end multipart upload of %s: %w", u.Key, err)
			}
			n++
		}
	}
	return n, nil
}

// cleanChecks deletes objects of checks.
func (s *Store) cleanChecks(ctx context.Context, before time.Time) (n int, err error) {
	var old []string
	err = s.list(ctx, checksDir, true, func(o minio.ObjectInfo) error {
		if o.LastModified.Before(before) {
			old = append(old, strings.TrimPrefix(o.Key, s.prefix))
		}
		return nil
	})
	if err == nil {
		err = s.remove(ctx, old...)
	}
	if err != nil {
		return 0, fmt.Errorf("delete the objects of checks: %w", err)
	}
	return len(old), nil
}

// cleanPartials deletes objects that no index names. It leaves partials without an index alone:
// [Store.WalkPartials] finds them.
func (s *Store) cleanPartials(ctx context.Context, before time.Time) (n int, err error) {
	var id string
	var old []string // of the partial id
	flush := func() error {
		deleted, err := s.cleanPartial(ctx, id, old)
		n += deleted
		return err
	}
	err = s.list(ctx, "partials/", true, func(o minio.ObjectInfo) error {
		dir, name := path.Split(strings.TrimPrefix(o.Key, s.prefix+"partials/"))
		if owner := strings.TrimSuffix(dir, "/"); owner != id {
			if err := flush(); err != nil {
				return err
			}
			id, old = owner, nil
		}
		if o.LastModified.Before(before) && segmentName.MatchString(name) && partialDir(id)+name != indexKey(id) {
			old = append(old, name)
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return n, fmt.Errorf("clean partials: %w", err)
	}
	return n, nil
}

// cleanPartial deletes those of the old objects of a partial that its index does not name. Before that
// it replaces the index, so that a process that was stopped for a long time does not name them later.
func (s *Store) cleanPartial(ctx context.Context, id string, old []string) (int, error) {
	s.mu.Lock()
	isOpen := s.open[id] != nil
	s.mu.Unlock()
	if len(old) == 0 || isOpen || checkPartial(id) != nil {
		return 0, nil
	}
	x, etag, err := s.readIndex(ctx, id)
	if errors.Is(err, blob.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	named := map[string]bool{}
	for _, e := range x.Pieces {
		named[e.Object] = true
	}
	var keys []string
	for _, name := range old {
		if !named[name] {
			keys = append(keys, partialDir(id)+name)
		}
	}
	if len(keys) == 0 {
		return 0, nil
	}
	x.Writer = rand.Text()
	_, err = s.put(ctx, indexKey(id), bytesOf(x.text()), ifMatches(etag), nil)
	if errors.Is(err, errCondition) || errors.Is(err, blob.ErrNotExist) {
		return 0, nil // it is in use
	}
	if err == nil {
		err = s.remove(ctx, keys...)
	}
	if err != nil {
		return 0, err
	}
	return len(keys), nil
}
