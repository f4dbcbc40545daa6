package storage_test

import (
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// foreign returns a layer that a registry need not have.
func foreign(content string) oci.Descriptor {
	return oci.Descriptor{
		MediaType: "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Digest: digest.FromString(content),
		Size: int64(len(content)), URLs: []string{"https://example.com/layer"},
	}
}

func TestStoredForeignLayerIsKept(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		m := f.Image("a", "config")
		m.Layers = []oci.Descriptor{foreign("here"), foreign("elsewhere"), foreign("late")}
		f.PushBlob("a", []byte("here"))
		f.Push("a", m, "v1")
		f.PushBlob("a", []byte("late"))
		f.now = f.now.Add(3 * time.Hour)
		if got, err := f.Collect(t.Context()); err != nil || got.Blobs > 0 {
			t.Errorf("Collect = %+v, %v; want nothing", got, err)
		}
		for content, want := range map[string]error{"here": oci.ErrDenied, "late": oci.ErrDenied,
			"elsewhere": oci.ErrBlobUnknown} {
			if err := f.DeleteBlob(t.Context(), "a", digest.FromString(content)); !errors.Is(err, want) {
				t.Errorf("DeleteBlob of the layer %q = %v, want %v", content, err, want)
			}
		}
	})
}

// TestIndexNeedsAndKeepsItsBlobs has an index of the form in which BuildKit pushes a cache: its
// entries are layers and a config.
func TestIndexNeedsAndKeepsItsBlobs(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		image := f.pushImage(t, "a", "v1")
		layer := oci.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
			Digest: digest.FromString("cache"), Size: 5}
		config := f.PushBlob("a", []byte("cache config"))
		config.MediaType = "application/vnd.buildkit.cacheconfig.v0"
		cache := storage.Put{
			Repository: "a", Payload: storagetest.Index(layer, storagetest.Reference(image.Digest), config).Payload(),
			Tags: []string{"cache"},
		}
		var refusal *oci.Error
		if _, err := f.PutManifest(t.Context(), cache); !errors.As(err, &refusal) ||
			!errors.Is(err, oci.ErrManifestBlobUnknown) {
			t.Fatalf("PutManifest without a blob = %v, want %v", err, oci.ErrManifestBlobUnknown)
		}
		f.PushBlob("a", []byte("cache"))
		for range 2 { // the second time it is here
			if _, err := f.PutManifest(t.Context(), cache); err != nil {
				t.Fatal(err)
			}
		}
		f.now = f.now.Add(3 * time.Hour)
		if got, err := f.Collect(t.Context()); err != nil || got.Blobs > 0 {
			t.Errorf("Collect = %+v, %v; want nothing", got, err)
		}
		if err := f.DeleteBlob(t.Context(), "a", layer.Digest); !errors.Is(err, oci.ErrDenied) {
			t.Errorf("DeleteBlob = %v, want %v", err, oci.ErrDenied)
		}
	})
}
