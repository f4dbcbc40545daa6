package storage_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

func TestTransferLosesAtMostOneMebibyteInACrash(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := newFixture(t)
		content := make([]byte, 5<<20+123)
		rand.NewChaCha8([32]byte{1}).Read(content)
		d := digest.FromBytes(content)
		written, crashes := 0, 0
		for {
			f.open(t, db) // as after a crash: nothing was closed
			tr, err := f.Transfer(t.Context(), d, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			missing := tr.Missing()
			if len(missing) == 0 {
				break
			}
			if lost := written - int(tr.Have()); lost < 0 || lost > storage.MaxLoss {
				t.Fatalf("a crash lost %d bytes of %d", lost, written)
			}
			written = int(tr.Have())
			for range 30 { // then the next crash
				r := missing[len(missing)-1]
				end := min(r.Start+64<<10, r.End)
				if _, err := tr.Write(t.Context(), content[r.Start:end], r.Start); err != nil {
					t.Fatal(err)
				}
				written += int(end - r.Start)
				if missing = tr.Missing(); len(missing) == 0 {
					break
				}
			}
			if len(missing) == 0 {
				if err := tr.Commit(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				break
			}
			crashes++
		}
		if crashes < 2 {
			t.Fatalf("the test crashed %d times, it means to do so more often", crashes)
		}
		r, _, err := f.OpenBlob(t.Context(), "a", d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		var got bytes.Buffer
		if got.ReadFrom(r); !bytes.Equal(got.Bytes(), content) {
			t.Error("the blob differs from what was sent")
		}
	})
}

func TestCrashLosesLittleOverASlowLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // in which a save takes no time
		db, err := metadb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "ferry.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		f := newFixture(t)
		const size, piece = 2 << 20, 16 << 10
		d := digest.FromBytes(make([]byte, size))
		for written := int64(0); written < size; {
			f.openOn(t, db, storagetest.Files(t, f.dir)) // as after a crash: nothing was closed
			tr, err := f.Transfer(t.Context(), d, size)
			if err != nil {
				t.Fatal(err)
			}
			if lost := written - tr.Have(); lost < 0 || lost > 80<<10 {
				t.Fatalf("a crash lost %d bytes of %d", lost, written)
			}
			for range 13 {
				written = tr.Have()
				if _, err := tr.Write(t.Context(), make([]byte, piece), written); err != nil {
					t.Fatal(err)
				}
				if written += piece; written == size {
					break
				}
			}
		}
	})
}

func TestTransferOfWrongBytesStartsAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := digest.FromString("right")
		tr, err := f.Transfer(t.Context(), d, 5)
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		if _, err := f.Storage.Transfer(t.Context(), d, 5); !errors.Is(err, storage.ErrBusy) {
			t.Errorf("a second user got %v, want %v", err, storage.ErrBusy)
		}
		if _, err := tr.Write(t.Context(), []byte("wrong"), 0); err != nil {
			t.Fatal(err)
		}
		if err := tr.Commit(t.Context(), "a"); !errors.Is(err, oci.ErrDigestInvalid) {
			t.Fatalf("Commit = %v, want %v", err, oci.ErrDigestInvalid)
		}
		if has, _ := f.HasBlob(t.Context(), d); has {
			t.Fatal("the wrong bytes are visible")
		}
		if err := tr.Reset(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := tr.Write(t.Context(), []byte("right"), 0); err != nil {
			t.Fatal(err)
		}
		if err := tr.Commit(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	})
}

func TestCrashLosesOneMebibyteOfAllTransfersTogether(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := newFixture(t)
		disk := &volatile{Store: storagetest.Blobs(t, f.dir)}
		f.openOn(t, db, disk)
		const each = 3 << 20
		contents := make([][]byte, 5)
		transfers := make([]*storage.Transfer, len(contents))
		for i := range contents {
			contents[i] = make([]byte, each)
			rand.NewChaCha8([32]byte{byte(i)}).Read(contents[i])
			tr, err := f.Transfer(t.Context(), digest.FromBytes(contents[i]), each)
			if err != nil {
				t.Fatal(err)
			}
			transfers[i] = tr
		}
		rng := rand.New(rand.NewPCG(1, 2))
		written := int64(0)
		for range 200 { // here and there, in all of them
			i := rng.IntN(len(contents))
			start := rng.Int64N(each)
			end := min(start+rng.Int64N(100<<10), each)
			fresh, err := transfers[i].Write(t.Context(), contents[i][start:end], start)
			if err != nil {
				t.Fatal(err)
			}
			written += fresh
		}
		disk.powerLoss()
		f.open(t, db)
		have := int64(0)
		for i, content := range contents {
			tr, err := f.Transfer(t.Context(), digest.FromBytes(content), each)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			have += tr.Have()
			for _, gap := range tr.Missing() {
				if _, err := tr.Write(t.Context(), content[gap.Start:gap.End], gap.Start); err != nil {
					t.Fatal(err)
				}
			}
			// The bytes that the row records must be those that were written.
			if err := tr.Commit(t.Context(), "a"); err != nil {
				t.Errorf("transfer %d: %v", i, err)
			}
		}
		if lost := written - have; lost < 0 || lost > storage.MaxLoss {
			t.Errorf("a power loss took %d bytes of %d", lost, written)
		}
	})
}

// A volatile disk loses all writes to partials that were not synced when the power fails.
type volatile struct {
	blob.Store
	partials []*volatilePartial
}

func (v *volatile) Partial(ctx context.Context, id string) (blob.Partial, error) {
	p, err := v.Store.Partial(ctx, id)
	vp := &volatilePartial{Partial: p}
	v.partials = append(v.partials, vp)
	return vp, err
}

func (v *volatile) powerLoss() {
	for _, p := range v.partials {
		for _, w := range p.unsynced {
			p.Partial.WriteAt(make([]byte, w.Len()), w.Start)
		}
	}
}

type volatilePartial struct {
	blob.Partial
	unsynced []storage.Range
}

func (p *volatilePartial) WriteAt(b []byte, offset int64) (int, error) {
	p.unsynced = append(p.unsynced, storage.Range{Start: offset, End: offset + int64(len(b))})
	return p.Partial.WriteAt(b, offset)
}

func (p *volatilePartial) Sync() error {
	p.unsynced = nil
	return p.Partial.Sync()
}

func TestUnneededTransferIsCollected(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		begin := func(d digest.Digest) *storage.Transfer {
			t.Helper()
			tr, err := f.Transfer(ctx, d, 10)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tr.Write(ctx, []byte("12345"), 0); err != nil {
				t.Fatal(err)
			}
			return tr
		}
		leased, open, unwanted := digest.FromString("leased"), digest.FromString("open"), digest.FromString("unwanted")
		if err := f.Lease(ctx, "sync", 24*time.Hour, leased); err != nil {
			t.Fatal(err)
		}
		begin(leased).Close()
		begin(unwanted).Close()
		kept := begin(open)
		f.now = f.now.Add(2 * time.Hour)
		if _, err := f.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		kept.Close()
		for d, want := range map[digest.Digest]int64{leased: 5, open: 5, unwanted: 0} {
			tr, err := f.Transfer(ctx, d, 10)
			if err != nil {
				t.Fatal(err)
			}
			if tr.Have() != want {
				t.Errorf("%s has %d bytes, want %d", d, tr.Have(), want)
			}
			tr.Close()
		}
		since := f.Uptime()
		if err := f.Lease(ctx, "sync", 24*time.Hour, open); err != nil {
			t.Fatal(err)
		}
		if err := f.ReleaseStale(ctx, "sync", since, 24*time.Hour); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(2 * time.Hour)
		if _, err := f.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		for d, want := range map[digest.Digest]int64{leased: 0, open: 5} {
			tr, err := f.Transfer(ctx, d, 10)
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			if tr.Have() != want {
				t.Errorf("after a release, %s has %d bytes, want %d", d, tr.Have(), want)
			}
		}
	})
}
