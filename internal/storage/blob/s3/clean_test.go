//go:build s3

package s3_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/s3"
	"ferry/internal/storage/blob/s3/s3test"
)

// Moments before and after all objects of a test.
func young() time.Time { return time.Now().Add(-time.Hour) }
func old() time.Time   { return time.Now().Add(time.Hour) }

func clean(t *testing.T, s *s3.Store, before time.Time, want int) {
	t.Helper()
	if n, err := s.Clean(t.Context(), before); n != want || err != nil {
		t.Errorf("Clean = %d, %v; want %d", n, err, want)
	}
}

// write opens a partial, and writes content at an offset.
func write(t *testing.T, s *s3.Store, id, content string, offset int64) blob.Partial {
	t.Helper()
	p, err := s.Partial(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt([]byte(content), offset); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCleanDeletesOldObjectsThatNobodyOwns(t *testing.T) {
	server := s3test.Start(t)
	client := server.Client()
	s := server.Store(t, "a")
	p := write(t, s, "kept", "content", 0)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("content")
	if err := s.Commit(t.Context(), "kept", d); err != nil {
		t.Fatal(err)
	}
	before := server.Objects(t, "a")
	for _, key := range []string{"a/partials/kept/stray", "a/partials/discarded/x", "a/checks/x", "b/partials/kept/x"} {
		if _, err := client.PutObject(t.Context(), server.Bucket, key, strings.NewReader("x"), 1,
			minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"a/blobs/sha256/x", "a/partials/kept/x", "b/blobs/sha256/x"} {
		core := minio.Core{Client: client}
		if _, err := core.NewMultipartUpload(t.Context(), server.Bucket, key, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	all, others := server.Objects(t, "a"), server.Objects(t, "b")
	clean(t, s, young(), 0)
	if diff := cmp.Diff(all, server.Objects(t, "a")); diff != "" {
		t.Errorf("young objects: %s", diff)
	}
	clean(t, s, old(), 4)
	clean(t, s, old(), 0)
	left := []string{}
	for _, key := range server.Objects(t, "a") {
		if key != "partials/discarded/x" { // WalkPartials finds it
			left = append(left, key)
		}
	}
	if diff := cmp.Diff(before, left); diff != "" {
		t.Errorf("after the cleaning: %s", diff)
	}
	if diff := cmp.Diff(others, server.Objects(t, "b")); diff != "" {
		t.Errorf("another prefix: %s", diff)
	}
	p = write(t, s, "kept", " and more", 7)
	defer p.Close()
	got := make([]byte, len("content and more"))
	if _, err := p.ReadAt(got, 0); err != nil || string(got) != "content and more" {
		t.Errorf("the partial is %q, %v", got, err)
	}
	if err := p.Sync(); err != nil {
		t.Error(err)
	}
}

// TestStoppedWriterDoesNotNameCleanedObjects has a process that wrote an object, and was stopped for
// days before it could name it in the index.
func TestStoppedWriterDoesNotNameCleanedObjects(t *testing.T) {
	server := s3test.Start(t)
	stopped, other := server.Store(t, "a"), server.Store(t, "a")
	cell := bytes.Repeat([]byte("0123456789abcdef"), 8<<20/16)
	p := write(t, stopped, "upload", "first", 0)
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if _, err := p.WriteAt(cell, 5); err != nil {
		t.Fatal(err)
	}
	if err := p.Truncate(int64(len(cell)) + 5); err != nil { // waits for the object of the first cell
		t.Fatal(err)
	}
	clean(t, stopped, old(), 0) // it has the partial open
	clean(t, other, old(), 1)
	if err := p.Sync(); err == nil {
		t.Error("the index names an object that was deleted")
	}
	_ = p.Close() // fails, too
	rest, err := other.Partial(t.Context(), "upload")
	if err != nil {
		t.Fatal(err)
	}
	defer rest.Close()
	got := make([]byte, 5)
	if n, err := rest.ReadAt(got, 0); n != 5 || err != nil || string(got) != "first" {
		t.Errorf("the other process reads %q, %v", got[:n], err)
	}
}
