package storage_test

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func bench(b *testing.B) *storage.Storage {
	b.Helper()
	c := storagetest.New(b, storage.Options{})
	c.PushBlob("a", []byte("x"))
	return c.Storage
}

// put stores a manifest that differs for each n.
func put(b *testing.B, s *storage.Storage, n int) *storage.Manifest {
	b.Helper()
	x := digest.FromString("x")
	payload := append(image(x, x), fmt.Sprintf("%*s", n+1, "\n")...)
	m, err := s.PutManifest(b.Context(), storage.Put{Repository: "a", Payload: payload, Tags: []string{"latest"}})
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func BenchmarkManifestFromMemory(b *testing.B) {
	s := bench(b)
	put(b, s, 0)
	for b.Loop() {
		if _, err := s.Manifest(b.Context(), "a", "latest"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkManifestFromTheDatabase(b *testing.B) {
	s := bench(b)
	put(b, s, 0)
	for b.Loop() {
		b.StopTimer()
		if err := s.ChangeLocks(b.Context(), "a", "latest",
			storage.LockChange{Clear: storage.NoRead}); err != nil { // which removes it from the cache
			b.Fatal(err)
		}
		b.StartTimer()
		if _, err := s.Manifest(b.Context(), "a", "latest"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkManifestPut(b *testing.B) {
	s := bench(b)
	n := 0
	for b.Loop() {
		n++
		put(b, s, n%4096)
	}
}

func BenchmarkBlobPut(b *testing.B) {
	s := bench(b)
	n := 0
	for b.Loop() {
		n++
		data := fmt.Appendf(nil, "blob %d", n)
		if err := s.PutBlob(b.Context(), "a", digest.FromBytes(data), data); err != nil {
			b.Fatal(err)
		}
	}
}
