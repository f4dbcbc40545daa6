package storage_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// linkedStore is a blob store with links, which counts how often it is asked for a blob, and its links.
type linkedStore struct {
	blob.Store
	stats, links int
}

func (s *linkedStore) Stat(ctx context.Context, d digest.Digest) (blob.Info, error) {
	s.stats++
	return s.Store.Stat(ctx, d)
}

func (s *linkedStore) Link(_ context.Context, d digest.Digest, _ time.Duration) (string, error) {
	s.links++
	return "https://store/" + d.Encoded(), nil
}

// A blob that is lost is found out when its link is asked for some minutes later.
func TestLinksAskTheStoreOnceAMinute(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	store := &linkedStore{Store: storagetest.Blobs(t, t.TempDir())}
	f := storagetest.New(t, storage.Options{Blobs: store, Now: func() time.Time { return now }})
	d := f.PushBlob("a", []byte("layer")).Digest
	store.stats = 0
	link := func(repository string) error {
		_, err := f.BlobURL(t.Context(), repository, d)
		return err
	}
	for range 3 {
		if err := link("a"); err != nil {
			t.Fatal(err)
		}
		now = now.Add(10 * time.Second)
	}
	if store.stats != 1 || store.links != 1 {
		t.Errorf("three questions asked the store %d times and made %d links, want one", store.stats, store.links)
	}
	if err := link("other"); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Errorf("link in a repository without the blob: %v, want %v", err, oci.ErrBlobUnknown)
	}
	if err := store.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	now = now.Add(2 * time.Minute)
	if err := link("a"); !errors.Is(err, oci.ErrBlobUnknown) {
		t.Errorf("link to a lost blob: %v, want %v", err, oci.ErrBlobUnknown)
	}
}
