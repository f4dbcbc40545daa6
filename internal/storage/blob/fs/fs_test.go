package fs_test

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/blobtest"
	blobfs "ferry/internal/storage/blob/fs"
)

func TestStoreFulfilsTheContract(t *testing.T) {
	blobtest.Run(t, func(t *testing.T) func() blob.Store {
		dir := t.TempDir()
		return func() blob.Store { return open(t, dir) }
	})
}

func open(t *testing.T, dir string) *blobfs.Store {
	t.Helper()
	s, err := blobfs.New(dir)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *blobfs.Store, d digest.Digest, content string) {
	t.Helper()
	p, err := s.Partial(t.Context(), "partial")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.WriteAt([]byte(content), 0); err != nil {
		t.Fatal(err)
	}
	if err := p.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), "partial", d); err != nil {
		t.Fatal(err)
	}
}

func TestBlobsAreWhereAnImageLayoutHasThem(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	put(t, s, digest.SHA256.FromString("one"), "one")
	put(t, s, digest.SHA512.FromString("two"), "two")
	got := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		name, _ := filepath.Rel(dir, path)
		got[name] = string(content)
		return err
	})
	want := map[string]string{
		"blobs/sha256/" + digest.SHA256.FromString("one").Encoded(): "one",
		"blobs/sha512/" + digest.SHA512.FromString("two").Encoded(): "two",
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestReaderIsAFileAndSurvivesADelete(t *testing.T) {
	s := open(t, t.TempDir())
	d := digest.FromString("content")
	put(t, s, d, "content")
	r, err := s.Open(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, ok := r.(*os.File); !ok {
		t.Errorf("Open returned a %T, which sendfile can't take", r)
	}
	if err := s.Delete(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(r); string(got) != "content" || err != nil {
		t.Errorf("the reader got %q, %v", got, err)
	}
}

func TestWalkSkipsOtherFiles(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	d := digest.FromString("content")
	put(t, s, d, "content")
	if err := os.WriteFile(filepath.Join(dir, "blobs/sha256/notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "blobs/sha256", digest.FromString("a directory").Encoded()),
		0o700); err != nil {
		t.Fatal(err)
	}
	var got []digest.Digest
	err := s.Walk(t.Context(), func(info blob.Info) error {
		got = append(got, info.Digest)
		return nil
	})
	if diff := cmp.Diff([]digest.Digest{d}, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

func TestDirectoryThatCannotBeCreatedIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := blobfs.New(file); err == nil {
		t.Error("New succeeded below a file")
	}
}
