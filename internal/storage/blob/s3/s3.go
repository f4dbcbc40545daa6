// Package s3 keeps blobs in a bucket of an S3-compatible object store, below a prefix: complete
// ones as blobs/<algorithm>/<hex>, and partial ones as a group of objects below partials/<id>/.
// Any number of processes may use one prefix.
//
// Begin with [Store] for complete blobs, with [partial] for those that are being written, and
// with [Store.Commit] for how one becomes the other. docs/storage.md describes the objects.
package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

var (
	_ blob.Store   = (*Store)(nil)
	_ blob.Keeper  = (*Store)(nil)
	_ blob.Cleaner = (*Store)(nil)
	_ blob.Coarse  = (*Store)(nil)
	_ blob.Linker  = (*Store)(nil)
)

// leastSync is how many bytes are worth an object of their own.
const leastSync = 1 << 20

// A Store keeps blobs below one prefix of a bucket. The bucket must have strong consistency
// and honour If-Match and If-None-Match when it writes; see [Store.Check].
type Store struct {
	objects
	memory *memory
	merges chan struct{} // bounds the pieces that are in memory because they are merged

	mu   sync.Mutex
	open map[string]*partial // of this process, by id
}

// New returns the store that o describes. It makes no request.
func New(o Options) (*Store, error) {
	client, err := o.client()
	if err != nil {
		return nil, fmt.Errorf("open blob store %s: %w", o.Location, err)
	}
	return &Store{
		objects: objects{
			Core: client, bucket: o.Location.Bucket, prefix: o.Location.prefix(), encryption: o.encryption(),
		},
		memory: newMemory(sharedMemory),
		merges: make(chan struct{}, maxMerges),
		open:   map[string]*partial{},
	}, nil
}

// blobKey returns the key of the blob d. It refuses anything but digests, so that no input names
// another object.
func (s *Store) blobKey(d digest.Digest) (string, error) {
	if _, err := oci.ParseDigest(string(d)); err != nil {
		return "", err
	}
	return "blobs/" + string(d.Algorithm()) + "/" + d.Encoded(), nil
}

// Open implements [blob.Store]. The content is fetched when it is read.
func (s *Store) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	key, err := s.blobKey(d)
	if err != nil {
		return nil, err
	}
	info, err := s.head(ctx, key)
	if err != nil {
		return nil, wrap("open", d, err)
	}
	r := s.reader(ctx, key, info.ETag, 0, info.Size)
	r.whole = true
	return r, nil
}

// Stat implements [blob.Store].
func (s *Store) Stat(ctx context.Context, d digest.Digest) (blob.Info, error) {
	key, err := s.blobKey(d)
	if err != nil {
		return blob.Info{}, err
	}
	info, err := s.head(ctx, key)
	if err != nil {
		return blob.Info{}, wrap("stat", d, err)
	}
	return blob.Info{Digest: d, Size: info.Size, Modified: info.LastModified}, nil
}

// Keeps implements [blob.Keeper]: only a commit writes the metadata, and an object never
// changes after that.
func (s *Store) Keeps(ctx context.Context, d digest.Digest) (bool, error) {
	key, err := s.blobKey(d)
	if err != nil {
		return false, err
	}
	info, err := s.head(ctx, key)
	if errors.Is(err, blob.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, wrap("stat", d, err)
	}
	return metadata(info, metaDigest) == string(d), nil
}

// Link implements [blob.Linker]. It makes no request.
func (s *Store) Link(ctx context.Context, d digest.Digest, lifetime time.Duration) (string, error) {
	key, err := s.blobKey(d)
	if err != nil {
		return "", err
	}
	u, err := s.PresignedGetObject(ctx, s.bucket, s.prefix+key, lifetime, nil)
	if err != nil {
		return "", wrap("link", d, s.convert(ctx, err))
	}
	return u.String(), nil
}

// Delete implements [blob.Store].
func (s *Store) Delete(ctx context.Context, d digest.Digest) error {
	key, err := s.blobKey(d)
	if err != nil {
		return err
	}
	if err := s.remove(ctx, key); err != nil {
		return wrap("delete", d, err)
	}
	return nil
}

// Free implements [blob.Store]: an object store knows no limit.
func (s *Store) Free(context.Context) (int64, error) { return math.MaxInt64 / 2, nil }

// LeastSync implements [blob.Coarse].
func (s *Store) LeastSync() int64 { return leastSync }

// Walk implements [blob.Store].
func (s *Store) Walk(ctx context.Context, fn func(blob.Info) error) error {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		dir := "blobs/" + string(algorithm) + "/"
		err := s.list(ctx, dir, true, func(o minio.ObjectInfo) error {
			d := digest.NewDigestFromEncoded(algorithm, strings.TrimPrefix(o.Key, s.prefix+dir))
			if _, err := oci.ParseDigest(string(d)); err != nil {
				return nil // an object that does not belong to the store
			}
			return fn(blob.Info{Digest: d, Size: o.Size, Modified: o.LastModified})
		})
		if err != nil {
			return fmt.Errorf("walk blobs: %w", err)
		}
	}
	return nil
}

func wrap(verb string, d digest.Digest, err error) error {
	return fmt.Errorf("%s blob %s: %w", verb, d, err)
}

// Metadata of a blob's object.
const (
	metaDigest  = "Ferry-Digest"  // of the content that was verified
	metaPartial = "Ferry-Partial" // from which it was made
	metaCommit  = "Ferry-Commit"  // a random text for each attempt to make it
)

func metadata(o minio.ObjectInfo, name string) string {
	return o.Metadata.Get("X-Amz-Meta-" + name)
}
