package storage_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// A process is a storage with the follower of its database.
type process struct {
	storagetest.Content
	follower *metadb.Follower
	locks    *metadb.Session
}

// processes returns storages of n processes with the same database and files.
func processes(t *testing.T, n int) (all []process) {
	t.Helper()
	dir := t.TempDir()
	for _, db := range dbtest.Processes(t, n) {
		f, err := db.Follow(t.Context(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		locks := db.NewSession()
		t.Cleanup(func() { locks.Close() })
		o := storage.Options{DB: db, Blobs: storagetest.Files(t, dir), Locks: locks, Grace: time.Nanosecond}
		p := process{storagetest.New(t, o), f, locks}
		f.Apply(p.Follow)
		all = append(all, p)
	}
	return all
}

func (p process) catchUp(t *testing.T) {
	t.Helper()
	if err := p.follower.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// tagged returns the manifest of a tag, which the storage may have in memory.
func (p process) tagged(t *testing.T, tag string) digest.Digest {
	t.Helper()
	m, err := p.Manifest(t.Context(), "a", tag)
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

func TestTagThatAnotherProcessMovesIsServedAtOnce(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	for n := range 5 {
		d := a.Push("a", a.Image("a", string(rune('a'+n))), "t").Digest
		b.catchUp(t)
		if got := b.tagged(t, "t"); got != d {
			t.Errorf("after push %d at the other process, the tag is %s and not %s", n, got, d)
		}
		b.tagged(t, "t")
	}
	if err := a.DeleteTag(t.Context(), "a", "t"); err != nil {
		t.Fatal(err)
	}
	b.catchUp(t)
	if _, err := b.Manifest(t.Context(), "a", "t"); oci.AsError(err) == nil {
		t.Errorf("a tag that another process has deleted: %v", err)
	}
}

func TestChangeOfAnotherProcessWakesWatchers(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	changed, stop := b.Watch("k", func(repository string) bool { return repository == "a" })
	defer stop()
	other, stop := b.Watch("o", func(repository string) bool { return repository == "other" })
	defer stop()
	a.Push("a", a.Image("a", "x"), "t")
	b.catchUp(t)
	<-changed
	select {
	case <-other:
		t.Error("a watcher of another repository is woken")
	default:
	}
}

func TestUploadGoesOnAtAnotherProcess(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	u, err := a.StartUpload(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Append(t.Context(), strings.NewReader("first ")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ResumeUpload(t.Context(), "a", u.ID()); oci.AsError(err) == nil {
		t.Errorf("an upload that another process is writing to: %v", err)
	}
	u.Close()
	again, err := b.ResumeUpload(t.Context(), "a", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Append(t.Context(), strings.NewReader("second")); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("first second")
	if err := again.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	content, _, err := a.OpenBlob(t.Context(), "a", d)
	if err != nil {
		t.Fatal(err)
	}
	content.Close()
}

func TestUploadOfALostSessionCannotBeWritten(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	u, err := a.StartUpload(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	a.locks.Close() // its locks are free now
	again, err := b.ResumeUpload(t.Context(), "a", u.ID())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Append(t.Context(), strings.NewReader("x")); !errors.Is(err, metadb.ErrLockLost) {
		t.Errorf("a request that has lost its upload: %v", err)
	}
	if again.Size() != 0 {
		t.Errorf("the upload has %d bytes at its new user", again.Size())
	}
	again.Close()
}

func TestCommitAndCollectionOfABlobExcludeEachOther(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	d := digest.FromString("x")
	l, err := a.locks.Lock(t.Context(), string(d))
	if err != nil {
		t.Fatal(err)
	}
	stored := make(chan error)
	go func() { stored <- b.PutBlob(t.Context(), "a", d, []byte("x")) }()
	select {
	case err := <-stored:
		t.Errorf("a blob is stored while another process has its lock: %v", err)
	default:
	}
	l.Release()
	if err := <-stored; err != nil {
		t.Error(err)
	}
}

func TestCommitWaitsForADeletionElsewhere(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	d := digest.FromString("x")
	put := func(tx *metadb.Tx) error { return tx.PutDeletion(string(d), 0) }
	if err := a.DB.Update(t.Context(), put); err != nil {
		t.Fatal(err)
	}
	stored := make(chan error)
	go func() { stored <- b.PutBlob(t.Context(), "a", d, []byte("x")) }()
	select {
	case err := <-stored:
		t.Errorf("a blob is stored while another process deletes its file: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := a.DB.Update(t.Context(), func(tx *metadb.Tx) error { return tx.EndDeletions(string(d)) }); err != nil {
		t.Fatal(err)
	}
	if err := <-stored; err != nil {
		t.Error(err)
	}
}

func TestProcessesCollectTheSameGarbageOnce(t *testing.T) {
	all := processes(t, 2)
	a, b := all[0], all[1]
	for n := range 20 {
		content := []byte{byte(n)}
		if err := a.PutBlob(t.Context(), "a", digest.FromBytes(content), content); err != nil {
			t.Fatal(err)
		}
	}
	kept := a.Push("a", a.Image("a", "config", []byte("layer")), "t").Digest
	var collectors errgroup.Group
	for _, p := range all {
		collectors.Go(func() error {
			_, err := p.Collect(t.Context())
			return err
		})
	}
	if err := collectors.Wait(); err != nil {
		t.Error(err)
	}
	if whole, err := b.IsWhole(t.Context(), "a", kept); err != nil || !whole {
		t.Errorf("the image is whole: %v, %v", whole, err)
	}
	left, err := metadb.Read(t.Context(), a.DB, func(tx *metadb.Tx) ([]metadb.Blob, error) { return tx.Blobs("", 100) })
	if err != nil || len(left) != 2 {
		t.Errorf("the blobs are %v, %v", left, err)
	}
}
