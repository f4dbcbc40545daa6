package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// begin starts an upload of content, and closes it.
func (f *fixture) begin(t *testing.T, repository, content string) (id string) {
	t.Helper()
	u, err := f.StartUpload(t.Context(), repository)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	if n, err := u.Append(t.Context(), strings.NewReader(content)); n != int64(len(content)) || err != nil {
		t.Fatalf("Append = %d, %v; want %d", n, err, len(content))
	}
	return u.ID()
}

func (f *fixture) resume(t *testing.T, repository, id string) *storage.Upload {
	t.Helper()
	u, err := f.ResumeUpload(t.Context(), repository, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u
}

// content reads a blob that must exist.
func (f *fixture) content(t *testing.T, repository string, d digest.Digest) string {
	t.Helper()
	r, info, err := f.OpenBlob(t.Context(), repository, d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || int64(len(got)) != info.Size {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, info.Size)
	}
	return string(got)
}

func TestUploadHasOneRequestAtATime(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		id := f.begin(t, "a", "content")
		u := f.resume(t, "a", id)
		if _, err := f.ResumeUpload(t.Context(), "a", id); !errors.Is(err, oci.ErrTooManyRequests) {
			t.Errorf("a second ResumeUpload = %v, want %v", err, oci.ErrTooManyRequests)
		}
		u.Close()
		u.Close() // twice is once
		for _, of := range [][2]string{{"b", id}, {"a", "unknown"}, {"a", ""}, {"a", "../../" + id}} {
			if _, err := f.ResumeUpload(t.Context(), of[0], of[1]); !errors.Is(err, oci.ErrBlobUploadUnknown) {
				t.Errorf("ResumeUpload%q = %v, want %v", of, err, oci.ErrBlobUploadUnknown)
			}
		}
		u = f.resume(t, "a", id)
		if err := u.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ResumeUpload(t.Context(), "a", id); !errors.Is(err, oci.ErrBlobUploadUnknown) {
			t.Errorf("ResumeUpload of a cancelled one = %v, want %v", err, oci.ErrBlobUploadUnknown)
		}
	})
}

// TestUploadResumesAtItsRecordedSize writes to the file behind the
// storage's back, as does a crash after a write and before its row.
func TestUploadResumesAtItsRecordedSize(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		id := f.begin(t, "a", "first ")
		file, err := os.OpenFile(filepath.Join(f.dir, "partial", "upload-"+id), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString("lost in the crash"); err != nil {
			t.Fatal(err)
		}
		file.Close()
		u := f.resume(t, "a", id)
		if u.Size() != 6 {
			t.Fatalf("Size = %d, want 6", u.Size())
		}
		if _, err := u.Append(t.Context(), strings.NewReader("second")); err != nil {
			t.Fatal(err)
		}
		d := digest.FromString("first second")
		if err := u.Commit(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if got := f.content(t, "a", d); got != "first second" {
			t.Errorf("the blob is %q", got)
		}
	})
}

func TestUploadWithUnreadableHashStateIsHashedAgain(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := newFixture(t)
		f.open(t, db)
		id := f.begin(t, "a", "content")
		err := db.Update(t.Context(), func(tx *metadb.Tx) error {
			row, err := tx.Upload("a", id)
			row.HashState = []byte("of another version")
			return errors.Join(err, tx.PutUpload(row))
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := f.resume(t, "a", id).Commit(t.Context(), digest.FromString("content")); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTransferWithUnreadableHashStateIsHashedAgain(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := newFixture(t)
		f.open(t, db)
		content := bytes.Repeat([]byte("content!"), 1<<18)
		d := digest.SHA512.FromBytes(content)
		tr, err := f.Transfer(t.Context(), d, int64(len(content)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Write(t.Context(), content, 0); err != nil {
			t.Fatal(err)
		}
		tr.Close()
		err = db.Update(t.Context(), func(tx *metadb.Tx) error {
			row, err := tx.Transfer(string(d))
			row.HashState = []byte("of another version")
			return errors.Join(err, tx.PutTransfer(row))
		})
		if err != nil {
			t.Fatal(err)
		}
		if tr, err = f.Transfer(t.Context(), d, int64(len(content))); err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		if tr.Have() != int64(len(content)) {
			t.Errorf("%d bytes are left, want %d", tr.Have(), len(content))
		}
		if err := tr.Commit(t.Context(), "a"); err != nil {
			t.Error(err)
		}
	})
}

func TestUploadKeepsBytesOfADisconnectedClient(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		u, err := f.StartUpload(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		gone := io.MultiReader(strings.NewReader("content"), readFunc(func([]byte) (int, error) {
			cancel()
			return 0, ctx.Err()
		}))
		if n, err := u.Append(ctx, gone); n != 7 || !errors.Is(err, context.Canceled) {
			t.Errorf("Append = %d, %v; want 7 and %v", n, err, context.Canceled)
		}
		u.Close()
		if u := f.resume(t, "a", u.ID()); u.Size() != 7 {
			t.Errorf("Size = %d, want 7", u.Size())
		}
	})
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestIdleUploadIsCollectedAfterAWeek(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		stale, busy := f.begin(t, "a", "stale"), f.begin(t, "a", "busy")
		open := f.resume(t, "a", busy)
		f.now = f.now.Add(7*24*time.Hour - time.Second)
		young := f.begin(t, "a", "young")
		if got, err := f.Collect(t.Context()); got.Uploads != 0 || err != nil {
			t.Fatalf("Collect = %+v, %v; want no uploads within a week", got, err)
		}
		f.now = f.now.Add(2 * time.Second)
		if got, err := f.Collect(t.Context()); got.Uploads != 1 || err != nil {
			t.Fatalf("Collect = %+v, %v; want one upload", got, err)
		}
		open.Close()
		for id, want := range map[string]error{stale: oci.ErrBlobUploadUnknown, busy: nil, young: nil} {
			u, err := f.ResumeUpload(t.Context(), "a", id)
			if !errors.Is(err, want) {
				t.Errorf("ResumeUpload = %v, want %v", err, want)
			}
			if err == nil {
				u.Close()
			}
		}
		if _, err := os.Stat(filepath.Join(f.dir, "partial", "upload-"+stale)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the stale upload's file: %v, want %v", err, os.ErrNotExist)
		}
	})
}

// TestBlobIsDurableBeforeItIsVisible watches what reaches the disk: at the
// commit no byte may be unsynced, and the content must be whole.
func TestBlobIsDurableBeforeItIsVisible(t *testing.T) {
	f := newFixture(t)
	disk := &watched{Store: storagetest.Blobs(t, f.dir), t: t, unsynced: map[string]bool{}}
	f.openOn(t, dbtest.SQLite(t), disk)
	f.push(t, "a", bytes.Repeat([]byte("x"), 1<<20))
	if err := f.PutBlob(t.Context(), "a", digest.FromString("small"), []byte("small")); err != nil {
		t.Fatal(err)
	}
	tr, err := f.Transfer(t.Context(), digest.FromString("fetched"), 7)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := tr.Write(t.Context(), []byte("fetched"), 0); err != nil {
		t.Fatal(err)
	}
	if err := tr.Commit(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if disk.commits != 3 {
		t.Errorf("%d blobs were committed, want 3", disk.commits)
	}
}

type watched struct {
	blob.Store
	t        *testing.T
	unsynced map[string]bool
	commits  int
}

func (w *watched) Partial(ctx context.Context, id string) (blob.Partial, error) {
	p, err := w.Store.Partial(ctx, id)
	return watchedPartial{p, w, id}, err
}

func (w *watched) Commit(ctx context.Context, id string, d digest.Digest) error {
	if w.unsynced[id] {
		w.t.Errorf("%s is committed before it is synced", id)
	}
	w.commits++
	return w.Store.Commit(ctx, id, d)
}

type watchedPartial struct {
	blob.Partial
	disk *watched
	id   string
}

func (p watchedPartial) WriteAt(b []byte, offset int64) (int, error) {
	p.disk.unsynced[p.id] = true
	return p.Partial.WriteAt(b, offset)
}

func (p watchedPartial) Sync() error {
	delete(p.disk.unsynced, p.id)
	return p.Partial.Sync()
}
