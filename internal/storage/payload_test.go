package storage_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// pushLarge pushes an image with a manifest of size bytes.
func pushLarge(t *testing.T, f *fixture, tag string, size int) (*storage.Manifest, []byte) {
	t.Helper()
	config, layer := f.push(t, "a", []byte("config")), f.push(t, "a", []byte("layer"))
	payload := image(config, layer)
	payload = append(payload, strings.Repeat(" ", size-len(payload))...)
	m, err := f.PutManifest(t.Context(), storage.Put{Repository: "a", Payload: payload, Tags: []string{tag}})
	if err != nil {
		t.Fatal(err)
	}
	return m, payload
}

func TestLargeManifestIsReadInChunks(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		for name, size := range map[string]int{
			"in-its-row": metadb.MaxInRow, "one-more": metadb.MaxInRow + 1,
			"whole-chunks": 6 * metadb.ChunkSize, "the-largest": oci.MaxManifestSize,
		} {
			put, want := pushLarge(t, f, name, size)
			for _, reference := range []string{name, string(put.Digest), name} {
				m, err := f.Manifest(t.Context(), "a", reference)
				if err != nil {
					t.Fatal(err)
				}
				if inRow := m.Payload != nil; inRow != (size <= metadb.MaxInRow) || m.Size != int64(size) {
					t.Errorf("%s: %d bytes, with its payload: %v", name, m.Size, inRow)
				}
				got, err := storagetest.ReadPayload(t.Context(), f.Storage, m)
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s: %d bytes, %v", name, len(got), err)
				}
				first, err := f.OpenPayload(m).Next(t.Context())
				if inRow := len(m.Payload); err != nil || inRow == 0 && len(first) != metadb.ChunkSize {
					t.Errorf("%s: the first chunk has %d bytes, %v", name, len(first), err)
				}
				if parsed, err := f.ParseManifest(t.Context(), m); err != nil || len(parsed.Layers) != 1 {
					t.Errorf("%s: ParseManifest = %+v, %v", name, parsed, err)
				}
			}
			if n, reason, err := f.VerifyManifest(t.Context(), "a", put.Digest); n != int64(size) || reason != "" ||
				err != nil {
				t.Errorf("%s: VerifyManifest = %d, %q, %v", name, n, reason, err)
			}
		}
	})
}

func TestDeletedManifestLeavesNoChunks(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		pushed, _ := pushLarge(t, f, "v1", 6*metadb.ChunkSize)
		large, err := f.Manifest(t.Context(), "a", string(pushed.Digest))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.DeleteManifest(t.Context(), "a", large.Digest); err != nil {
			t.Fatal(err)
		}
		if _, err := storagetest.ReadPayload(t.Context(), f.Storage, large); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("reading what was deleted: %v", err)
		}
		err = f.DB.View(t.Context(), func(tx *metadb.Tx) error {
			_, err := tx.AppendManifestChunk(nil, "a", string(large.Digest), 0)
			return err
		})
		if !errors.Is(err, metadb.ErrNotFound) {
			t.Errorf("ManifestChunk = %v", err)
		}
	})
}

// damageLarge stores a large manifest with a damaged payload.
func damageLarge(t *testing.T, f *fixture, change func(payload []byte) []byte) (digest.Digest, []byte) {
	t.Helper()
	config, layer := f.push(t, "a", []byte("config")), f.push(t, "a", []byte("layer"))
	payload := image(config, layer)
	payload = append(payload, strings.Repeat(" ", 6*metadb.ChunkSize-len(payload))...)
	d := digest.FromBytes(payload)
	err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		row := metadb.Manifest{
			Repository: "a", Digest: d, MediaType: oci.MediaTypeImageManifest, Annotations: "{}",
			Payload: change(bytes.Clone(payload)),
		}
		_, err := tx.PutManifest(row, []metadb.Child{{Digest: string(config)}, {Digest: string(layer)}})
		if err == nil {
			err = errors.Join(tx.TouchRepository("a", f.now), tx.SetTag("a", "v1", string(d), 1, f.now))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return d, payload
}

func TestDamagedLargeManifestIsNeverReadWhole(t *testing.T) {
	changes := map[string]func([]byte) []byte{
		"first chunk":  func(p []byte) []byte { p[5] ^= 1; return p },
		"last chunk":   func(p []byte) []byte { p[len(p)-1] ^= 1; return p },
		"a chunk less": func(p []byte) []byte { return p[:5*metadb.ChunkSize] },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, f *fixture) {
				d, payload := damageLarge(t, f, change)
				m, err := f.Manifest(t.Context(), "a", "v1")
				if err != nil {
					t.Fatal(err)
				}
				got, err := storagetest.ReadPayload(t.Context(), f.Storage, m)
				if !errors.Is(err, oci.ErrManifestUnknown) || len(got) > 5*metadb.ChunkSize {
					t.Errorf("%d bytes, %v", len(got), err)
				}
				if _, err := f.ParseManifest(t.Context(), m); !errors.Is(err, oci.ErrManifestUnknown) {
					t.Errorf("ParseManifest = %v", err)
				}
				if _, err := f.Manifest(t.Context(), "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) {
					t.Errorf("Manifest = %v once its damage is known", err)
				}
				if _, err := f.PutManifest(t.Context(), storage.Put{Repository: "a", Payload: payload}); err != nil {
					t.Fatal(err)
				}
				if m, err = f.Manifest(t.Context(), "a", "v1"); err != nil {
					t.Fatal(err)
				}
				if got, err := storagetest.ReadPayload(t.Context(), f.Storage, m); err != nil ||
					digest.FromBytes(got) != d {
					t.Errorf("after a push: %d bytes, %v", len(got), err)
				}
			})
		})
	}
}

func TestVerifyFindsADamagedLargeManifest(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d, _ := damageLarge(t, f, func(p []byte) []byte { p[metadb.ChunkSize] ^= 1; return p })
		if _, reason, err := f.VerifyManifest(t.Context(), "a", d); reason == "" || err != nil {
			t.Errorf("VerifyManifest = %q, %v", reason, err)
		}
		if _, err := f.Manifest(t.Context(), "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("Manifest = %v", err)
		}
	})
}
