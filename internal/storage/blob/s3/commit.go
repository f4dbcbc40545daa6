package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/storage/blob"
)

const (
	// minPart is the size of the smallest part of a multipart upload that is not the last.
	minPart = 5 << 20
	// smallBlob is the size up to which a blob is written with one request.
	smallBlob = 1 << 20
	// parallelCopies is how many parts of a blob are copied at a time.
	parallelCopies = 8
	// maxMerges is how many parts may be in memory at a time, because they consist of pieces that
	// are too small. Each takes less than minPart + cellSize.
	maxMerges = 4
	// reopenPart is how many bytes a Reopen copies with one request.
	reopenPart = 1 << 30
)

// Commit implements [blob.Store]. The partial remains: a crash before the caller's transaction
// leaves it as it was, and a blob that nobody owns. The object store copies the objects that
// were hashed, which their ETags tell, so that no other writer can change what is committed.
func (s *Store) Commit(ctx context.Context, id string, d digest.Digest) error {
	key, err := s.blobKey(d)
	if err == nil {
		err = checkPartial(id)
	}
	if err != nil {
		return err
	}
	p, x, err := s.synced(ctx, id)
	if err == nil {
		err = s.make(ctx, key, p, x, map[string]string{
			metaDigest: string(d), metaPartial: id, metaCommit: rand.Text(),
		})
	}
	if err != nil {
		return wrap("commit", d, err)
	}
	return nil
}

// synced returns a partial and its index as it is stored. If this process has the partial open,
// it needs no request.
func (s *Store) synced(ctx context.Context, id string) (*partial, *index, error) {
	s.mu.Lock()
	p := s.open[id]
	s.mu.Unlock()
	if p != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.etag != "" && !p.unstored && !p.hasDirty() {
			return p, &index{Version: indexVersion, Pieces: slices.Clone(p.index.Pieces)}, nil
		}
	}
	x, etag, err := s.readIndex(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	p = s.newPartial(id)
	p.index, p.etag = x, etag
	return p, x, nil
}

// make writes the object of a blob with the content of a partial.
func (s *Store) make(ctx context.Context, key string, p *partial, x *index, meta map[string]string) error {
	parts, err := x.parts()
	if err != nil {
		return err
	}
	if x.size() > smallBlob {
		return s.compose(ctx, key, p, parts, meta)
	}
	content, err := p.readPieces(ctx, x.Pieces)
	if err != nil {
		return err
	}
	_, err = s.put(ctx, key, bytesOf(content), ifAbsent, meta)
	if !errors.Is(err, errCondition) {
		return err
	}
	if s.isOurs(ctx, key, meta) {
		return nil
	}
	_, err = s.put(ctx, key, bytesOf(content), always, meta)
	return err
}

// isOurs reports whether an object is the result of this commit. It is, although the store says
// that it was there before, if the answer to the first try was lost.
func (s *Store) isOurs(ctx context.Context, key string, meta map[string]string) bool {
	info, err := s.head(ctx, key)
	return err == nil && metadata(info, metaCommit) == meta[metaCommit]
}

// A part is a part of a multipart upload: one piece, or several that are too small.
type part []piece

func (p part) span() blob.Range { return blob.Range{Start: p[0].Start, End: p[len(p)-1].End} }

// parts returns the parts of a blob, as few as possible of more than one piece.
func (x *index) parts() (all []part, err error) {
	end := int64(0)
	var next part
	for _, e := range x.Pieces {
		if e.Start != end {
			return nil, fmt.Errorf("the partial has no bytes at %d", end)
		}
		end = e.End
		if next = append(next, e); next.span().Len() >= minPart {
			all, next = append(all, next), nil
		}
	}
	if len(next) > 0 {
		all = append(all, next)
	}
	return all, nil
}

// compose writes an object of parts, most of which the store copies. An object that exists is
// replaced.
func (s *Store) compose(ctx context.Context, key string, p *partial, parts []part, meta map[string]string) (err error) {
	upload, err := s.NewMultipartUpload(ctx, s.bucket, s.prefix+key, s.options(always, meta))
	if err != nil {
		return s.convert(ctx, err)
	}
	defer func() {
		if err != nil { // a crash before this leaves it to Clean
			err = errors.Join(err, ignoreMissing(s.abort(context.WithoutCancel(ctx), key, upload)))
		}
	}()
	done := make([]minio.CompletePart, len(parts))
	g, each := errgroup.WithContext(ctx)
	g.SetLimit(parallelCopies)
	for i, part := range parts {
		g.Go(func() (err error) {
			done[i], err = s.addPart(each, key, upload, i+1, p, part)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, c := range []condition{ifAbsent, always} {
		err = s.complete(ctx, key, upload, done, c)
		if err == nil || !errors.Is(err, errCondition) && !errors.Is(err, blob.ErrNotExist) {
			return err
		}
		if s.isOurs(ctx, key, meta) {
			return nil
		}
	}
	return err
}

func (s *Store) complete(
	ctx context.Context, key, upload string, parts []minio.CompletePart, c condition,
) error {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	options := s.options(c, nil)
	options.ServerSideEncryption = nil // it was said when the upload began, and may not be repeated
	_, err := s.CompleteMultipartUpload(ctx, s.bucket, s.prefix+key, upload, parts, options)
	return s.convert(ctx, err)
}

func (s *Store) abort(ctx context.Context, key, upload string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	return s.convert(ctx, s.AbortMultipartUpload(ctx, s.bucket, s.prefix+key, upload))
}

func ignoreMissing(err error) error {
	if errors.Is(err, blob.ErrNotExist) {
		return nil
	}
	return err
}

// addPart adds part number n: a copy, or the bytes of several pieces.
func (s *Store) addPart(
	ctx context.Context, key, upload string, n int, p *partial, of part,
) (minio.CompletePart, error) {
	if len(of) == 1 {
		return s.copyPart(ctx, key, upload, n, partialDir(p.id)+of[0].Object, of[0])
	}
	select {
	case s.merges <- struct{}{}:
		defer func() { <-s.merges }()
	case <-ctx.Done():
		return minio.CompletePart{}, context.Cause(ctx)
	}
	content, err := p.readPieces(ctx, of)
	if err != nil {
		return minio.CompletePart{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	body := bytesOf(content)
	size, sum, err := checksum(body)
	if err != nil {
		return minio.CompletePart{}, err
	}
	added, err := s.PutObjectPart(ctx, s.bucket, s.prefix+key, upload, n, body, size,
		minio.PutObjectPartOptions{CustomHeader: map[string][]string{checksumHeader: {sum}}})
	return minio.CompletePart{PartNumber: n, ETag: added.ETag}, s.convert(ctx, err)
}

// copyPart adds the bytes of e, which are in the object from, as part number n.
func (s *Store) copyPart(
	ctx context.Context, key, upload string, n int, from string, e piece,
) (minio.CompletePart, error) {
	ctx, cancel := context.WithTimeout(ctx, putTimeout)
	defer cancel()
	added, err := s.CopyObjectPart(ctx, s.bucket, s.prefix+from, s.bucket, s.prefix+key, upload, n, e.From,
		e.span().Len(), map[string]string{"x-amz-copy-source-if-match": `"` + e.ETag + `"`})
	return minio.CompletePart{PartNumber: n, ETag: added.ETag}, s.convert(ctx, err)
}

// Reopen implements [blob.Store].
func (s *Store) Reopen(ctx context.Context, d digest.Digest, id string) error {
	key, err := s.blobKey(d)
	if err == nil {
		err = checkPartial(id)
	}
	if err != nil {
		return err
	}
	info, err := s.head(ctx, key)
	if err != nil {
		return wrap("reopen", d, err)
	}
	if metadata(info, metaPartial) == id {
		x, _, err := s.readIndex(ctx, id)
		if err == nil && x.size() == info.Size {
			return nil // the commit left it
		}
		if err != nil && !errors.Is(err, blob.ErrNotExist) {
			return wrap("reopen", d, err)
		}
	}
	x, err := s.copyBack(ctx, key, info, id)
	if err == nil {
		_, err = s.put(ctx, indexKey(id), bytesOf(x.text()), always, nil)
	}
	if err == nil {
		err = s.remove(ctx, key)
	}
	if err != nil {
		return wrap("reopen", d, err)
	}
	return nil
}

// copyBack copies a blob to one object of the partial id, and returns its index.
func (s *Store) copyBack(ctx context.Context, key string, info minio.ObjectInfo, id string) (*index, error) {
	x := &index{Version: indexVersion, Writer: rand.Text()}
	if info.Size == 0 {
		return x, nil
	}
	name := "whole-" + strings.ToLower(rand.Text())
	to := partialDir(id) + name
	upload, err := s.NewMultipartUpload(ctx, s.bucket, s.prefix+to, s.options(always, nil))
	if err != nil {
		return nil, s.convert(ctx, err)
	}
	var parts []minio.CompletePart
	for at := int64(0); at < info.Size && err == nil; at += reopenPart {
		var added minio.CompletePart
		added, err = s.copyPart(ctx, to, upload, len(parts)+1, key,
			piece{ETag: info.ETag, From: at, Start: at, End: min(at+reopenPart, info.Size)})
		parts = append(parts, added)
	}
	if err == nil {
		err = s.complete(ctx, to, upload, parts, always)
	}
	var copied minio.ObjectInfo
	if err == nil {
		copied, err = s.head(ctx, to)
	}
	if err != nil {
		return nil, errors.Join(err, ignoreMissing(s.abort(context.WithoutCancel(ctx), to, upload)))
	}
	x.Pieces = []piece{{Object: name, ETag: copied.ETag, End: info.Size}}
	return x, nil
}

// Discard implements [blob.Store]. The index is deleted first, so that it never names what is
// not there.
func (s *Store) Discard(ctx context.Context, id string) error {
	if err := checkPartial(id); err != nil {
		return err
	}
	s.mu.Lock()
	if p := s.open[id]; p != nil {
		p.mu.Lock()
		p.discarded = true
		p.mu.Unlock()
	}
	s.mu.Unlock()
	if err := s.remove(ctx, indexKey(id)); err != nil {
		return fmt.Errorf("discard partial %s: %w", id, err)
	}
	var keys []string
	err := s.list(ctx, partialDir(id), true, func(o minio.ObjectInfo) error {
		keys = append(keys, strings.TrimPrefix(o.Key, s.prefix))
		return nil
	})
	if err == nil {
		err = s.remove(ctx, keys...)
	}
	if err != nil {
		return fmt.Errorf("discard partial %s: %w", id, err)
	}
	return nil
}

// WalkPartials implements [blob.Store].
func (s *Store) WalkPartials(ctx context.Context, fn func(id string, size int64) error) error {
	ids := map[string]bool{}
	err := s.list(ctx, "partials/", false, func(o minio.ObjectInfo) error {
		if id := path.Base(o.Key); strings.HasSuffix(o.Key, "/") && checkPartial(id) == nil {
			ids[id] = true
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("walk partials: %w", err)
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		var size int64
		x, _, err := s.readIndex(ctx, id)
		if err == nil {
			size = x.size()
		} else if !errors.Is(err, blob.ErrNotExist) {
			return fmt.Errorf("walk partials: %w", err)
		}
		if err := fn(id, size); err != nil {
			return err
		}
	}
	return nil
}
