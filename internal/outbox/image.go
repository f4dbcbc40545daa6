package outbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// maxDepth is how many levels of indexes within indexes are sent.
const maxDepth = 8

// blobsAtOnce is how many blobs of one manifest are sent at a time.
const blobsAtOnce = 4

// An image is an image that is being sent.
type image struct {
	*Sender
	repository string
	tally      *tally
}

// A lostError is that this registry does not have the content of a change any more, because it is
// damaged, for example.
type lostError struct{ error }

// Unwrap returns the cause.
func (e lostError) Unwrap() error { return e.error }

// manifest sends a manifest and everything below it, unless the parent has it.
func (im *image) manifest(ctx context.Context, d digest.Digest, depth int) error {
	has, err := im.Parent.HasManifest(ctx, im.repository, d)
	if err != nil || has {
		return err
	}
	if depth > maxDepth {
		return lostError{fmt.Errorf("send %s: indexes are nested more than %d levels deep", d, maxDepth)}
	}
	m, err := im.Storage.Unlocked().Manifest(ctx, im.repository, string(d))
	if errors.Is(err, oci.ErrManifestUnknown) {
		return lostError{fmt.Errorf("neither this registry nor its parent has the manifest %s", d)}
	}
	if err != nil {
		return err
	}
	parsed, err := im.Storage.ParseManifest(ctx, m)
	if err != nil {
		return lostError{fmt.Errorf("read manifest %s: %w", d, err)}
	}
	for _, child := range parsed.Manifests {
		if err := im.manifest(ctx, child.Digest, depth+1); err != nil {
			return err
		}
	}
	if err := im.blobs(ctx, parsed.Blobs()); err != nil {
		return err
	}
	var payload bytes.Buffer
	content := im.Storage.OpenPayload(m)
	for {
		chunk, err := content.Next(ctx)
		if err == io.EOF {
			break
		}
		if err != nil {
			return lostError{fmt.Errorf("read manifest %s: %w", d, err)}
		}
		payload.Write(chunk)
	}
	err = im.Parent.SendManifest(ctx, im.repository, d, m.MediaType, payload.Bytes())
	if errors.Is(err, oci.ErrManifestBlobUnknown) {
		return vanishedError{err}
	}
	return err
}

// blobs sends the blobs of a manifest, several at a time.
func (im *image) blobs(ctx context.Context, all []oci.Descriptor) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var first error
	turns := make(chan struct{}, blobsAtOnce)
	for _, b := range all {
		turns <- struct{}{}
		mu.Lock()
		failed := first != nil
		mu.Unlock()
		if failed {
			break
		}
		wg.Go(func() {
			defer func() { <-turns }()
			err := im.blob(ctx, b)
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = err
			}
		})
	}
	wg.Wait()
	return first
}

// blob sends a blob, once for all images that need it now.
func (im *image) blob(ctx context.Context, b oci.Descriptor) error {
	_, err, _ := im.uploads.Do(im.repository+"@"+string(b.Digest), func() (any, error) {
		return nil, im.sendBlob(ctx, b)
	})
	return err
}

func (im *image) sendBlob(ctx context.Context, b oci.Descriptor) error {
	info, err := im.Storage.StatBlob(ctx, im.repository, b.Digest)
	if errors.Is(err, oci.ErrBlobUnknown) {
		if oci.MayBeAbsent(b) {
			return nil
		}
		return lostError{fmt.Errorf("this registry does not have the blob %s any more: %w", b.Digest, err)}
	}
	if err != nil {
		return err
	}
	sending := Blob{Repository: im.repository, Digest: b.Digest, Size: info.Size}
	err = im.DB.View(ctx, func(tx *metadb.Tx) (err error) {
		sending.Upload, err = tx.OutboxUpload(im.repository, string(b.Digest))
		if errors.Is(err, metadb.ErrNotFound) {
			sending.From, err = tx.OtherRepository(im.repository, string(b.Digest))
		}
		return err
	})
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	sending.Started = func(id string) error {
		return im.DB.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
			if id == "" {
				return tx.DeleteOutboxUpload(im.repository, string(b.Digest))
			}
			return tx.PutOutboxUpload(im.repository, string(b.Digest), id)
		})
	}
	sending.Open = func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		return im.open(ctx, b.Digest, offset)
	}
	if err := im.Parent.SendBlob(ctx, sending); err != nil {
		return err
	}
	im.setSent(b.Digest, info.Size)
	if sending.Upload == "" && info.Size == 0 {
		return nil
	}
	return sending.Started("")
}

// open opens a blob from an offset on.
func (im *image) open(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	f, _, err := im.Storage.Unlocked().OpenBlob(ctx, im.repository, d)
	if err == nil {
		if _, err = f.Seek(offset, io.SeekStart); err != nil {
			f.Close()
		}
	}
	if err != nil {
		return nil, lostError{fmt.Errorf("open blob %s: %w", d, err)}
	}
	counted := &countedReader{Reader: im.Limit(ctx, f), image: im, digest: d, at: offset}
	return struct {
		io.Reader
		io.Closer
	}{counted, f}, nil
}

// A countedReader counts the bytes of a blob that are sent.
type countedReader struct {
	io.Reader
	image  *image
	digest digest.Digest
	at     int64
}

// Read implements [io.Reader].
func (r *countedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.at += int64(n)
	r.image.setSent(r.digest, r.at)
	r.image.tally.add(Result{Bytes: int64(n)})
	return n, err
}

// maxCounted is how many blobs are counted as sent at most.
const maxCounted = 10_000

// setSent records how many bytes of a blob the parent has.
func (s *Sender) setSent(d digest.Digest, n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sent) >= maxCounted {
		clear(s.sent)
	}
	s.sent[d] = n
}

// A Backlog is what the parent does not have yet.
type Backlog struct {
	Items, Refused int
	Bytes          int64 // of blobs, at most: the parent may have some of them
}

// Backlog returns what the parent does not have yet.
func (s *Sender) Backlog(ctx context.Context) (b Backlog, err error) {
	var blobs []metadb.Blob
	err = s.DB.View(ctx, func(tx *metadb.Tx) error {
		counts, err := tx.CountOutbox()
		b.Items, b.Refused = counts[metadb.Unsent]+counts[metadb.Failed], counts[metadb.Failed]
		if err == nil && b.Items > 0 {
			blobs, err = tx.UnsentBlobs(maxCounted)
		}
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, blob := range blobs {
		b.Bytes += max(blob.Size-s.sent[digest.Digest(blob.Digest)], 0)
	}
	return b, err
}
