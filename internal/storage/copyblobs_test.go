package storage_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/storagetest"
)

// bothWays runs a test that copies from files to a store, and from a store to files. Without the tag s3,
// both are files.
func bothWays(t *testing.T, test func(t *testing.T, from, to blob.Store)) {
	t.Run("from files", func(t *testing.T) {
		test(t, storagetest.Files(t, t.TempDir()), storagetest.Blobs(t, t.TempDir()))
	})
	t.Run("to files", func(t *testing.T) {
		test(t, storagetest.Blobs(t, t.TempDir()), storagetest.Files(t, t.TempDir()))
	})
}

// noise returns n random bytes, which are the same for the same seed.
func noise(seed uint64, n int) []byte {
	content, random := make([]byte, n), rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = random.Read(content)
	return content
}

// putFile commits a blob, whose digest may be wrong.
func putFile(t *testing.T, s blob.Store, d digest.Digest, content []byte) {
	t.Helper()
	p, err := s.Partial(t.Context(), "put")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = p.WriteAt(content, 0); err == nil {
		err = p.Sync()
	}
	if err = errors.Join(err, p.Close()); err == nil {
		err = s.Commit(t.Context(), "put", d)
	}
	if err = errors.Join(err, s.Discard(t.Context(), "put")); err != nil {
		t.Fatal(err)
	}
}

// allFiles returns the content of all blobs of a store.
func allFiles(t *testing.T, s blob.Store) map[digest.Digest]string {
	t.Helper()
	all := map[digest.Digest]string{}
	var digests []digest.Digest
	err := s.Walk(t.Context(), func(i blob.Info) error { digests = append(digests, i.Digest); return nil })
	for _, d := range digests {
		var r io.ReadSeekCloser
		if r, err = s.Open(t.Context(), d); err == nil {
			var content []byte
			content, err = io.ReadAll(r)
			all[d] = string(content)
			r.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// noPartials fails the test if a store has partials.
func noPartials(t *testing.T, s blob.Store) {
	t.Helper()
	err := s.WalkPartials(t.Context(), func(id string, _ int64) error { return errors.New("found " + id) })
	if err != nil {
		t.Error(err)
	}
}

func TestEveryBlobIsCopiedAndVerified(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to blob.Store) {
		want := map[digest.Digest]string{}
		for i, n := range []int{0, 1, 300 << 10, 3 << 20} {
			content := noise(uint64(i), n)
			d := digest.FromBytes(content)
			putFile(t, from, d, content)
			want[d] = string(content)
		}
		long := digest.SHA512.FromString("of another algorithm")
		putFile(t, from, long, []byte("of another algorithm"))
		want[long] = "of another algorithm"
		damaged := digest.FromString("good")
		putFile(t, from, damaged, []byte("evil"))
		stale := digest.FromBytes(noise(2, 300<<10))
		putFile(t, to, stale, []byte("of another size"))

		c := storage.NewBlobCopy(from, to, storage.Unpaced)
		pass, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, allFiles(t, to)); diff != "" {
			t.Error("the target differs")
		}
		noPartials(t, to)
		if pass.Copied != len(want) || pass.Blobs != len(want)+1 || pass.Bytes != pass.BytesTotal {
			t.Errorf("the pass was %+v", pass)
		}
		if got := c.Damaged(); len(got) != 1 || got[damaged] == "" {
			t.Errorf("damaged are %v", got)
		}
		if pass, err := c.Run(t.Context()); pass.BlobsTotal != 0 || err != nil {
			t.Errorf("the next pass was %+v, %v", pass, err)
		}
		again := storage.NewBlobCopy(from, to, storage.Unpaced)
		if pass, err := again.Run(t.Context()); pass.Copied != 0 || pass.Bytes != pass.BytesTotal || err != nil {
			t.Errorf("another copy was %+v, %v", pass, err)
		}
	})
}

// A cuttable store can be made to fail after a number of bytes, and counts what is read.
type cuttable struct {
	blob.Store
	left, read int64
	cut        func()
}

func (c *cuttable) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	r, err := c.Store.Open(ctx, d)
	return &cuttableReader{r, c}, err
}

type cuttableReader struct {
	io.ReadSeekCloser
	c *cuttable
}

func (r *cuttableReader) Read(p []byte) (int, error) {
	n, err := r.ReadSeekCloser.Read(p)
	if r.c.read += int64(n); r.c.read > r.c.left {
		r.c.cut()
	}
	return n, err
}

func TestInterruptedCopyContinuesAtItsByte(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to blob.Store) {
		const size, most = 5 << 20, 3 << 20
		content := noise(1, size)
		d := digest.FromBytes(content)
		putFile(t, from, d, content)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		source := &cuttable{Store: from, left: most, cut: cancel}
		if _, err := storage.NewBlobCopy(source, to, storage.Unpaced).Run(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("the copy ended with %v", err)
		}
		if len(allFiles(t, to)) > 0 {
			t.Fatal("a part is a blob")
		}
		source.read, source.cut = 0, func() {}
		pass, err := storage.NewBlobCopy(source, to, storage.Unpaced).Run(t.Context())
		if err != nil || pass.Copied != 1 {
			t.Fatalf("the next copy was %+v, %v", pass, err)
		}
		if source.read > size-most {
			t.Errorf("%d bytes were read again", source.read-size+most)
		}
		if string(content) != allFiles(t, to)[d] {
			t.Error("the blob differs")
		}
		noPartials(t, to)
	})
}

func TestDamagedPartOfACopyIsReplaced(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to blob.Store) {
		content := noise(1, 2<<20)
		d := digest.FromBytes(content)
		putFile(t, from, d, content)
		p, err := to.Partial(t.Context(), "copy-sha256-"+d.Encoded())
		if err == nil {
			_, err = p.WriteAt(noise(2, 1<<20), 0)
		}
		if err = errors.Join(err, p.Close()); err != nil {
			t.Fatal(err)
		}
		c := storage.NewBlobCopy(from, to, storage.Unpaced)
		if _, err := c.Run(t.Context()); err != nil || len(c.Damaged()) > 0 {
			t.Fatalf("the copy ended with %v, damaged are %v", err, c.Damaged())
		}
		if string(content) != allFiles(t, to)[d] {
			t.Error("the blob differs")
		}
	})
}

func TestFileThatChangedInTheTargetIsReplaced(t *testing.T) {
	dir := t.TempDir()
	from, to := storagetest.Files(t, t.TempDir()), storagetest.Files(t, dir)
	d := digest.FromString("content")
	putFile(t, from, d, []byte("content"))
	putFile(t, to, d, []byte("changed"))
	if _, err := storage.NewBlobCopy(from, to, storage.Unpaced).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", d.Encoded())); string(got) != "content" {
		t.Errorf("the file is %q, %v", got, err)
	}
}

func TestBlobThatIsDeletedMeanwhileIsLeftOut(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to blob.Store) {
		gone := digest.FromString("gone")
		putFile(t, from, gone, []byte("gone"))
		source := &deleting{from, gone}
		pass, err := storage.NewBlobCopy(source, to, storage.Unpaced).Run(t.Context())
		if err != nil || pass.Copied != 0 || pass.Blobs != 1 {
			t.Errorf("the pass was %+v, %v", pass, err)
		}
		noPartials(t, to)
	})
}

// A deleting store deletes a blob when it is opened.
type deleting struct {
	blob.Store
	blob digest.Digest
}

func (s *deleting) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	if err := s.Delete(ctx, s.blob); err != nil {
		return nil, err
	}
	return s.Store.Open(ctx, d)
}

// TestUploadsAndTransfersContinueAfterACopy stops an instance in the middle of two uploads and two
// transfers, one of each damaged, and starts it on the copy.
func TestUploadsAndTransfersContinueAfterACopy(t *testing.T) {
	bothWays(t, func(t *testing.T, from, to blob.Store) {
		ctx, db := t.Context(), dbtest.SQLite(t)
		f := newFixture(t)
		f.openOn(t, db, from)
		good, bad := f.begin(t, "a", "good upl"), f.begin(t, "a", "bad upl")
		content := noise(1, 3<<20)
		fetched, broken := digest.FromBytes(content), digest.FromString("broken")
		tr, err := f.Transfer(ctx, fetched, int64(len(content)))
		if err == nil {
			_, err = tr.Write(ctx, content[:1<<20], 0)
		}
		if err == nil {
			_, err = tr.Write(ctx, content[2<<20:], 2<<20)
		}
		if err = errors.Join(err, tr.Close()); err != nil {
			t.Fatal(err)
		}
		if tr, err = f.Transfer(ctx, broken, 100); err == nil {
			_, err = tr.Write(ctx, make([]byte, 50), 0)
		}
		if err = errors.Join(err, tr.Close(), from.Discard(ctx, "transfer-sha256-"+broken.Encoded())); err != nil {
			t.Fatal(err)
		}
		p, err := from.Partial(ctx, "upload-"+bad)
		if err == nil {
			_, err = p.WriteAt([]byte("evil"), 0)
		}
		if err = errors.Join(err, p.Close()); err != nil {
			t.Fatal(err)
		}
		p, err = to.Partial(ctx, "upload-stale")
		if err == nil {
			_, err = p.WriteAt([]byte("stale"), 0)
		}
		if err = errors.Join(err, p.Close()); err != nil {
			t.Fatal(err)
		}

		n, err := storage.NewBlobCopy(from, to, storage.Unpaced).CopyPartials(ctx, db)
		if want := (storage.CopiedPartials{Copied: 2, Ended: 2}); n != want || err != nil {
			t.Fatalf("CopyPartials = %+v, %v; want %+v", n, err, want)
		}
		f.openOn(t, db, to)
		u := f.resume(t, "a", good)
		if _, err = u.Append(ctx, bytes.NewReader([]byte("oad"))); err == nil {
			err = u.Commit(ctx, digest.FromString("good upload"))
		}
		if err != nil {
			t.Error(err)
		}
		if _, err := f.ResumeUpload(ctx, "a", bad); !errors.Is(err, oci.ErrBlobUploadUnknown) {
			t.Errorf("the damaged upload: %v", err)
		}
		if tr, err = f.Transfer(ctx, fetched, int64(len(content))); err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		if have := tr.Have(); have != 2<<20 {
			t.Errorf("the transfer has %d bytes", have)
		}
		if _, err = tr.Write(ctx, content[1<<20:2<<20], 1<<20); err == nil {
			err = tr.Commit(ctx, "a")
		}
		if err != nil || f.content(t, "a", fetched) != string(content) {
			t.Errorf("the transfer ends with %v", err)
		}
		tr, err = f.Transfer(ctx, broken, 100)
		if err != nil || tr.Have() != 0 {
			t.Errorf("the lost transfer has %d bytes, %v", tr.Have(), err)
		}
		tr.Close()
		err = to.WalkPartials(ctx, func(id string, _ int64) error {
			if id == "upload-stale" {
				return errors.New(id)
			}
			return nil
		})
		if err != nil {
			t.Errorf("a partial that nobody knows is left: %v", err)
		}
	})
}

func TestBlobsThatTheTargetLacksAreFound(t *testing.T) {
	db := dbtest.SQLite(t)
	from, to := storagetest.Files(t, t.TempDir()), storagetest.Files(t, t.TempDir())
	f := newFixture(t)
	f.openOn(t, db, from)
	there, lost, short := f.push(t, "a", []byte("there")), f.push(t, "a", []byte("lost")), digest.FromString("short")
	putFile(t, from, short, []byte("short"))
	err := db.Update(t.Context(), func(tx *metadb.Tx) error {
		return tx.PutBlob(metadb.Blob{Digest: string(short), Size: 6, CreatedAt: time.Now()})
	})
	if err = errors.Join(err, from.Delete(t.Context(), lost)); err != nil {
		t.Fatal(err)
	}
	c := storage.NewBlobCopy(from, to, storage.Unpaced)
	if _, err := c.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	missing, err := c.Missing(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	got := map[digest.Digest]bool{}
	for _, d := range missing {
		got[d] = true
	}
	if len(got) != 2 || !got[lost] || !got[short] || got[there] {
		t.Errorf("missing are %v", missing)
	}
}
