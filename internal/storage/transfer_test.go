package storage_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

func TestTransferLosesAtMostOneMebibyteInACrash(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := &fixture{dir: t.TempDir(), now: time.Unix(1_700_000_000, 0)}
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

func TestTransferOfWrongBytesIsFoundOutAndStartsOver(t *testing.T) {
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
