package storage_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// A disk is a blob store that a test can fill and break.
type disk struct {
	blob.Store
	full     atomic.Bool                   // writes store half of the bytes, then fail with ENOSPC
	broken   atomic.Bool                   // syncs fail
	onCommit func()                        // called after a file is in its place
	stuck    atomic.Pointer[digest.Digest] // of a blob whose file cannot be deleted
}

func (d *disk) Partial(ctx context.Context, id string) (blob.Partial, error) {
	p, err := d.Store.Partial(ctx, id)
	return diskPartial{p, d}, err
}

func (d *disk) Delete(ctx context.Context, of digest.Digest) error {
	if stuck := d.stuck.Load(); stuck != nil && *stuck == of {
		return syscall.EIO
	}
	return d.Store.Delete(ctx, of)
}

func (d *disk) Commit(ctx context.Context, id string, of digest.Digest) error {
	err := d.Store.Commit(ctx, id, of)
	if d.onCommit != nil {
		d.onCommit()
	}
	return err
}

type diskPartial struct {
	blob.Partial
	disk *disk
}

func (p diskPartial) WriteAt(b []byte, offset int64) (int, error) {
	if !p.disk.full.Load() {
		return p.Partial.WriteAt(b, offset)
	}
	n, err := p.Partial.WriteAt(b[:len(b)/2], offset)
	return n, errors.Join(err, syscall.ENOSPC)
}

func (p diskPartial) Sync() error {
	if p.disk.broken.Load() {
		return syscall.EIO
	}
	return p.Partial.Sync()
}

// onDisk returns a fixture on a disk, with a SQLite database that raw reaches.
func onDisk(t *testing.T) (f *fixture, d *disk, raw *sql.DB) {
	t.Helper()
	f = newFixture(t)
	d = &disk{Store: storagetest.Blobs(t, f.dir)}
	s, db, err := storagetest.Open(t.Context(), f.dir, storage.Options{Blobs: d, Now: f.clock, Uptime: f.uptime})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	f.Content = storagetest.Content{Storage: s, DB: db, T: t}
	path := filepath.Join(f.dir, "ferry.db")
	if raw, err = sql.Open("sqlite", path+"?_pragma=busy_timeout(5000)"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { raw.Close() })
	return f, d, raw
}

func TestFullDiskRefusesContentAndKeepsTheRest(t *testing.T) {
	f, disk, _ := onDisk(t)
	ctx := t.Context()
	stored := f.pushImage(t, "a", "v1")
	u, err := f.StartUpload(ctx, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Append(ctx, strings.NewReader("first ")); err != nil {
		t.Fatal(err)
	}
	disk.full.Store(true)
	if n, err := u.Append(ctx, strings.NewReader("second")); n != 0 || !errors.Is(err, oci.ErrNoSpace) {
		t.Errorf("Append on a full disk = %d, %v; want 0, %v", n, err, oci.ErrNoSpace)
	}
	u.Close()
	if err := f.PutBlob(ctx, "a", digest.FromString("x"), []byte("x")); !errors.Is(err, oci.ErrNoSpace) {
		t.Errorf("PutBlob on a full disk = %v, want %v", err, oci.ErrNoSpace)
	}
	tr, err := f.Transfer(ctx, digest.FromString("ab"), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := tr.Write(ctx, []byte("ab"), 0); !errors.Is(err, oci.ErrNoSpace) {
		t.Errorf("Write on a full disk = %v, want %v", err, oci.ErrNoSpace)
	}
	if _, err := f.Collect(ctx); err != nil {
		t.Errorf("Collect on a full disk = %v", err)
	}
	if m, err := f.Manifest(ctx, "a", "v1"); err != nil || m.Digest != stored.Digest {
		t.Errorf("Manifest = %v, %v", m, err)
	}
	if got := f.content(t, "a", digest.FromString("layer v1")); got != "layer v1" {
		t.Errorf("the stored layer is %q", got)
	}

	disk.full.Store(false)
	u = f.resume(t, "a", u.ID())
	if u.Size() != 6 {
		t.Fatalf("Size = %d, want 6", u.Size())
	}
	if _, err := u.Append(ctx, strings.NewReader("second")); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(ctx, digest.FromString("first second")); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Write(ctx, []byte("ab"), 0); err != nil {
		t.Fatal(err)
	}
	if err := tr.Commit(ctx, "a"); err != nil {
		t.Fatal(err)
	}
}

func TestFullDiskKeepsUploadsForTheGracePeriod(t *testing.T) {
	f, disk, _ := onDisk(t)
	id := f.begin(t, "a", "first ")
	u := f.resume(t, "a", id)
	disk.full.Store(true)
	if _, err := u.Append(t.Context(), strings.NewReader("second")); !errors.Is(err, oci.ErrNoSpace) {
		t.Fatalf("Append = %v, want %v", err, oci.ErrNoSpace)
	}
	u.Close()
	for _, step := range []struct {
		after time.Duration
		gone  int
	}{{59 * time.Minute, 0}, {2 * time.Minute, 1}} {
		f.now = f.now.Add(step.after)
		if got, err := f.Collect(t.Context()); got.Uploads != step.gone || err != nil {
			t.Errorf("Collect = %+v, %v; want %d uploads", got, err, step.gone)
		}
	}
	disk.full.Store(false)
	f.begin(t, "a", "another")
	f.now = f.now.Add(25 * time.Hour)
	if got, err := f.Collect(t.Context()); got.Uploads != 0 || err != nil {
		t.Errorf("Collect a day later = %+v, %v; want no uploads", got, err)
	}
}

func TestFailedSyncAddsNoBytesToAnUpload(t *testing.T) {
	f, disk, _ := onDisk(t)
	ctx := t.Context()
	id := f.begin(t, "a", "first ")
	u := f.resume(t, "a", id)
	disk.broken.Store(true)
	if n, err := u.Append(ctx, strings.NewReader("second")); n != 0 || !errors.Is(err, syscall.EIO) {
		t.Errorf("Append = %d, %v; want 0, %v", n, err, syscall.EIO)
	}
	disk.broken.Store(false)
	if u.Size() != 6 {
		t.Fatalf("Size = %d, want 6", u.Size())
	}
	if _, err := u.Append(ctx, strings.NewReader("again")); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(ctx, digest.FromString("first again")); err != nil {
		t.Fatal(err)
	}
}

// breakTable makes every use of a table fail, until restore.
func breakTable(t *testing.T, raw *sql.DB, table string) (restore func()) {
	t.Helper()
	exec := func(query string) {
		if _, err := raw.Exec(query); err != nil {
			t.Error(err)
		}
	}
	exec(`ALTER TABLE ` + table + ` RENAME TO broken`)
	return func() { exec(`ALTER TABLE broken RENAME TO ` + table) }
}

// TestUnrecordedCommitLosesNoByte loses a part of the database, or all of it, after the file
// was moved to its place.
func TestUnrecordedCommitLosesNoByte(t *testing.T) {
	for _, table := range []string{"repository_blobs", "blobs"} {
		for _, restart := range []bool{false, true} {
			f, disk, raw := onDisk(t)
			ctx := t.Context()
			id, uploaded := f.begin(t, "a", "uploaded"), digest.FromString("uploaded")
			if table == "repository_blobs" { // the blob is known to be absent, so any file is moved back at once
				uploaded = digest.SHA512.FromString("uploaded")
			}
			const size = 3 << 20 // large enough for a row
			fetched := []byte(strings.Repeat("fetched!", size/8))
			tr, err := f.Transfer(ctx, digest.FromBytes(fetched), size)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tr.Write(ctx, fetched, 0); err != nil {
				t.Fatal(err)
			}

			var restore func()
			disk.onCommit = func() { restore = breakTable(t, raw, table) }
			u := f.resume(t, "a", id)
			if err := u.Commit(ctx, uploaded); err == nil {
				t.Fatal("the upload's Commit succeeded without its table")
			}
			restore()
			if err := tr.Commit(ctx, "a"); err == nil {
				t.Fatal("the transfer's Commit succeeded without its table")
			}
			restore()
			disk.onCommit = nil
			if restart {
				tr.Close()
				if tr, err = f.Transfer(ctx, digest.FromBytes(fetched), size); err != nil {
					t.Fatal(err)
				}
			}
			defer tr.Close()

			u = f.resume(t, "a", id)
			if u.Size() != 8 {
				t.Fatalf("without %s, the upload has %d bytes left, want 8", table, u.Size())
			}
			if err := u.Commit(ctx, uploaded); err != nil {
				t.Errorf("without %s, the upload's second Commit = %v", table, err)
			}
			if tr.Have() != size {
				t.Fatalf("without %s, the transfer has %d bytes left, want %d", table, tr.Have(), size)
			}
			if err := tr.Commit(ctx, "a"); err != nil {
				t.Errorf("without %s, the transfer's second Commit = %v", table, err)
			}
		}
	}
}

// TestCrashBetweenFileAndRowLosesNoByte moves the files as a commit does, and stops. A
// collection runs before the partials are opened again.
func TestCrashBetweenFileAndRowLosesNoByte(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		const size = 2 << 20
		fetched := []byte(strings.Repeat("12345678", size/8))
		d := digest.FromBytes(fetched)
		tr, err := f.Transfer(ctx, d, size)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Write(ctx, fetched, 0); err != nil {
			t.Fatal(err)
		}
		tr.Close()
		id := f.begin(t, "a", "uploaded")
		files := storagetest.Blobs(t, f.dir)
		if err := files.Commit(ctx, "transfer-sha256-"+d.Encoded(), d); err != nil {
			t.Fatal(err)
		}
		if _, err := f.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		if err := files.Commit(ctx, "upload-"+id, digest.FromString("uploaded")); err != nil {
			t.Fatal(err)
		}
		if tr, err = f.Transfer(ctx, d, size); err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		if tr.Have() != size {
			t.Fatalf("the transfer has %d bytes, want %d", tr.Have(), size)
		}
		if err := tr.Commit(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		if err := f.resume(t, "a", id).Commit(ctx, digest.FromString("uploaded")); err != nil {
			t.Fatal(err)
		}
		if got := f.content(t, "a", digest.FromString("uploaded")); got != "uploaded" {
			t.Errorf("the blob is %q", got)
		}
	})
}

func TestPushRestoresALostBlobFile(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("content"))
		files := storagetest.Blobs(t, f.dir)
		if err := files.Delete(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if _, _, err := f.OpenBlob(t.Context(), "a", d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("OpenBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if _, err := f.StatBlob(t.Context(), "a", d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("StatBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if has, err := f.HasBlob(t.Context(), d); has || err != nil {
			t.Errorf("HasBlob = %v, %v; want false", has, err)
		}
		if mounted, err := f.Mount(t.Context(), "b", "a", d); mounted || err != nil {
			t.Errorf("Mount = %v, %v; want false", mounted, err)
		}
		f.push(t, "a", []byte("content"))
		if got := f.content(t, "a", d); got != "content" {
			t.Errorf("the blob is %q", got)
		}
	})
}
