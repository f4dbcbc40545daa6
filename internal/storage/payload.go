package storage

import (
	"context"
	"errors"
	"hash"
	"io"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// A chunkReader appends chunk n of a payload to b. The error is [metadb.ErrNotFound] after the
// last.
type chunkReader func(b []byte, n int) ([]byte, error)

// chunksIn reads the payload of m in one transaction.
func chunksIn(tx *metadb.Tx, m *Manifest) chunkReader {
	return func(b []byte, n int) ([]byte, error) {
		return tx.AppendManifestChunk(b, m.Repository, string(m.Digest), n)
	}
}

// chunksOf reads the payload of m with a transaction for each chunk. The chunks fit together,
// because the digest determines the content.
func (s *Storage) chunksOf(ctx context.Context, m *Manifest) chunkReader {
	return func(b []byte, n int) ([]byte, error) {
		return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]byte, error) { return chunksIn(tx, m)(b, n) })
	}
}

// A payloadHash checks a payload that is read in chunks.
type payloadHash struct {
	digest     digest.Digest
	hash       hash.Hash
	have, size int64
}

// newPayloadHash returns the hash for the payload of m; nil if the digest is invalid.
func newPayloadHash(m *Manifest) *payloadHash {
	if _, err := oci.ParseDigest(string(m.Digest)); err != nil {
		return nil
	}
	return &payloadHash{digest: m.Digest, hash: m.Digest.Algorithm().Hash(), size: m.Size}
}

func (h *payloadHash) add(chunk []byte) {
	h.hash.Write(chunk)
	h.have += int64(len(chunk))
}

// isWhole reports whether the chunks have the right size and digest.
func (h *payloadHash) isWhole() bool {
	return h.have == h.size && digest.NewDigest(h.digest.Algorithm(), h.hash) == h.digest
}

// isPayloadOf reports whether the payload of m, in its row or in chunks, matches its digest.
func isPayloadOf(m *Manifest, chunks chunkReader) (bool, error) {
	h := newPayloadHash(m)
	if h == nil {
		return false, nil
	}
	if m.Size <= metadb.MaxInRow {
		h.add(m.Payload)
		return h.isWhole(), nil
	}
	var chunk []byte
	for n := 0; h.have < h.size; n++ {
		var err error
		chunk, err = chunks(chunk[:0], n)
		if errors.Is(err, metadb.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		h.add(chunk)
	}
	return h.isWhole(), nil
}

// A PayloadReader reads the payload of a manifest in chunks, so that a large one is never
// whole in memory.
type PayloadReader struct {
	storage  *Storage
	manifest *Manifest
	hash     *payloadHash
	n        int // chunks that were read
	chunk    []byte
}

// OpenPayload returns a reader of the payload of m. m must be from a method that returns a
// single manifest.
func (s *Storage) OpenPayload(m *Manifest) *PayloadReader {
	return &PayloadReader{storage: s, manifest: m, hash: newPayloadHash(m)}
}

// Next returns the next chunk, or [io.EOF] after the last. The chunk must not be modified, and
// is valid until the next call. The last chunk is returned only if the payload matches its
// digest. Otherwise the manifest is taken out of service, and the error is
// [oci.ErrManifestUnknown], as for a manifest that was deleted meanwhile.
func (r *PayloadReader) Next(ctx context.Context) ([]byte, error) {
	m := r.manifest
	switch {
	case r.hash == nil:
		return nil, r.storage.damagedPayload(ctx, m)
	case r.hash.have == m.Size:
		return nil, io.EOF
	case m.Payload != nil: // it was checked when it was read
		r.hash.have = m.Size
		return m.Payload, nil
	}
	chunk, err := r.storage.chunksOf(ctx, m)(r.chunk[:0], r.n)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return nil, err
	}
	r.n++
	r.chunk = chunk
	r.hash.add(chunk)
	if err != nil || r.hash.have > m.Size || r.hash.have == m.Size && !r.hash.isWhole() {
		return nil, r.storage.damagedPayload(ctx, m)
	}
	return chunk, nil
}

// damagedPayload takes a manifest out of service if its payload is damaged, and returns the
// error for that, or for a manifest that was deleted meanwhile.
func (s *Storage) damagedPayload(ctx context.Context, m *Manifest) error {
	if _, _, err := s.VerifyManifest(context.WithoutCancel(ctx), m.Repository, m.Digest); err != nil {
		s.log.Error("damage is not recorded", "repo", m.Repository, "digest", m.Digest, "err", err)
	}
	return s.db.View(ctx, func(tx *metadb.Tx) error { return damagedManifest(tx, m.Repository, m.Digest) })
}

// ParseManifest parses m. Large manifests are read and parsed one at a time. If m is damaged,
// the error is [oci.ErrManifestUnknown].
func (s *Storage) ParseManifest(ctx context.Context, m *Manifest) (parsed *oci.Manifest, err error) {
	if m.Payload != nil {
		return oci.ParseManifest(m.MediaType, m.Payload)
	}
	err = s.View(ctx, func(v *View) error {
		parsed, err = v.ParseManifest(m)
		return err
	})
	if errors.Is(err, oci.ErrManifestUnknown) {
		err = s.damagedPayload(ctx, m)
	}
	return parsed, err
}

// ParseManifest is [Storage.ParseManifest] in the view. It takes no damaged manifest out of
// service.
func (v *View) ParseManifest(m *Manifest) (*oci.Manifest, error) {
	if m.Payload != nil {
		return oci.ParseManifest(m.MediaType, m.Payload)
	}
	v.storage.parsing.Lock() // the holder waits for no other transaction
	defer v.storage.parsing.Unlock()
	if m.Size > oci.MaxManifestSize {
		return nil, oci.ErrManifestUnknown
	}
	payload := make([]byte, 0, m.Size)
	chunks := chunksIn(v.tx, m)
	for n := 0; int64(len(payload)) < m.Size; n++ {
		var err error
		payload, err = chunks(payload, n)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil, oci.ErrManifestUnknown
		}
		if err != nil {
			return nil, err
		}
	}
	if !isContentOf(m.Digest, payload) {
		return nil, oci.ErrManifestUnknown
	}
	return oci.ParseManifest(m.MediaType, payload)
}
