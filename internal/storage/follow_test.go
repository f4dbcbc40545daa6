package storage_test

import (
	"log/slog"
	"testing"

	"github.com/opencontainers/go-digest"

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
		p := process{storagetest.New(t, storage.Options{DB: db, Blobs: storagetest.Files(t, dir)}), f}
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
