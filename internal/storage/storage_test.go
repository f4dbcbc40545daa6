package storage_test

import (
	"bytes"
	"errors"
	"io"
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

// A fixture is a storage whose clocks the test controls.
type fixture struct {
	storagetest.Content
	dir  string
	now  time.Time
	step time.Duration // by how much the wall clock was set forwards
}

var epoch = time.Unix(1_700_000_000, 0)

func run(t *testing.T, test func(t *testing.T, f *fixture)) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		f := newFixture(t)
		f.open(t, db)
		test(t, f)
	})
}

// newFixture returns a fixture without a storage; see [fixture.open] and [fixture.openOn].
func newFixture(t *testing.T) *fixture {
	return &fixture{dir: t.TempDir(), now: epoch}
}

// open opens the storage on db and the fixture's directory, as a starting process does.
func (f *fixture) open(t *testing.T, db *metadb.DB) {
	t.Helper()
	f.openOn(t, db, storagetest.Blobs(t, f.dir))
}

// openOn is [fixture.open] with another blob store.
func (f *fixture) openOn(t *testing.T, db *metadb.DB, blobs blob.Store) {
	t.Helper()
	f.Content = storagetest.New(t, storage.Options{DB: db, Blobs: blobs, Now: f.clock, Uptime: f.uptime})
}

func (f *fixture) clock() time.Time { return f.now.Add(f.step) }

func (f *fixture) uptime() time.Duration { return f.now.Sub(epoch) }

func (f *fixture) push(t *testing.T, repository string, content []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(content)
	u, err := f.StartUpload(t.Context(), repository)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := u.Append(t.Context(), bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := u.Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d
}

func image(config, layer digest.Digest) []byte {
	return storagetest.Manifest{
		Config: &oci.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: config, Size: 1},
		Layers: []oci.Descriptor{{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: layer, Size: 1}},
	}.Payload()
}

func (f *fixture) pushImage(t *testing.T, repository, tag string) *storage.Manifest {
	t.Helper()
	config, layer := f.push(t, repository, []byte("config "+tag)), f.push(t, repository, []byte("layer "+tag))
	put := storage.Put{Repository: repository, Payload: image(config, layer)}
	if tag != "" {
		put.Tags = []string{tag}
	}
	m, err := f.PutManifest(t.Context(), put)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestManifestIsRefusedUntilItsChildrenArePresent(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		config := f.push(t, "a", []byte("config"))
		layer := digest.FromString("layer")
		put := storage.Put{Repository: "a", Payload: image(config, layer), Tags: []string{"v1"}}
		if _, err := f.PutManifest(t.Context(), put); !errors.Is(err, oci.ErrManifestBlobUnknown) {
			t.Fatalf("PutManifest = %v, want %v", err, oci.ErrManifestBlobUnknown)
		}
		if _, err := f.Manifest(t.Context(), "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Fatalf("Manifest = %v, want %v", err, oci.ErrManifestUnknown)
		}
		f.push(t, "a", []byte("layer"))
		if _, err := f.PutManifest(t.Context(), put); err != nil {
			t.Fatal(err)
		}
		m, err := f.Manifest(t.Context(), "a", "v1")
		if err != nil || !bytes.Equal(m.Payload, put.Payload) {
			t.Fatalf("Manifest = %v, %v", m, err)
		}
	})
}

func TestBlobOfAnotherRepositoryIsNotServed(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("x"))
		if _, _, err := f.OpenBlob(t.Context(), "b", d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Fatalf("OpenBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if ok, err := f.Mount(t.Context(), "b", "a", d); !ok || err != nil {
			t.Fatalf("Mount = %v, %v", ok, err)
		}
		if _, _, err := f.OpenBlob(t.Context(), "b", d); err != nil {
			t.Fatal(err)
		}
	})
}

func TestWrongDigestMakesNothingVisible(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		u, err := f.StartUpload(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		u.Append(t.Context(), strings.NewReader("content"))
		wrong := digest.FromString("other")
		if err := u.Commit(t.Context(), wrong); !errors.Is(err, oci.ErrDigestInvalid) {
			t.Fatalf("Commit = %v, want %v", err, oci.ErrDigestInvalid)
		}
		for _, d := range []digest.Digest{wrong, digest.FromString("content")} {
			if _, _, err := f.OpenBlob(t.Context(), "a", d); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("OpenBlob(%s) = %v, want %v", d, err, oci.ErrBlobUnknown)
			}
		}
	})
}

func TestUploadResumesAfterRestart(t *testing.T) {
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		t.Run(string(algorithm), func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
				f := newFixture(t)
				f.open(t, db)
				u, err := f.StartUpload(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				cut := io.MultiReader(strings.NewReader("first "), errReader{})
				if n, err := u.Append(t.Context(), cut); n != 6 || err == nil {
					t.Fatalf("Append = %d, %v; want 6 and the reader's error", n, err)
				}
				id := u.ID()
				f.open(t, db) // as after a crash: u was never closed
				u, err = f.ResumeUpload(t.Context(), "a", id)
				if err != nil {
					t.Fatal(err)
				}
				if u.Size() != 6 {
					t.Fatalf("Size = %d, want 6", u.Size())
				}
				if _, err := u.Append(t.Context(), strings.NewReader("second")); err != nil {
					t.Fatal(err)
				}
				d := algorithm.FromString("first second")
				if err := u.Commit(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				r, info, err := f.OpenBlob(t.Context(), "a", d)
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				if got, _ := io.ReadAll(r); string(got) != "first second" || info.Size != 12 {
					t.Fatalf("blob is %q, size %d", got, info.Size)
				}
			})
		})
	}
}

type errReader struct{}

func (errReader) Read([]byte) (int, error) { return 0, errors.New("cut") }

func TestCollectKeepsReferencedLeasedAndYoungContent(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		m := f.pushImage(t, "a", "v1")
		leased := f.push(t, "a", []byte("leased"))
		if err := f.Lease(ctx, "test", 3*time.Hour, leased); err != nil {
			t.Fatal(err)
		}
		unreferenced := f.push(t, "b", []byte("loose")) // without further pushes
		seen := f.push(t, "a", []byte("seen by a pusher"))
		f.now = f.now.Add(2 * time.Hour)
		if _, err := f.StatBlob(ctx, "a", seen); err != nil {
			t.Fatal(err)
		}
		young := f.push(t, "a", []byte("young"))
		got, err := f.Collect(ctx)
		if err != nil || got.Blobs != 1 || got.Bytes != 5 {
			t.Fatalf("Collect = %+v, %v; want one blob of 5 bytes", got, err)
		}
		for _, d := range []digest.Digest{digest.FromString("layer v1"), leased, seen, young} {
			if _, err := f.StatBlob(ctx, "a", d); err != nil {
				t.Errorf("StatBlob(%s) = %v", d, err)
			}
		}
		if _, err := f.StatBlob(ctx, "b", unreferenced); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("StatBlob(unreferenced) = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if err := f.DeleteManifest(ctx, "a", m.Digest); err != nil {
			t.Fatal(err)
		}
		f.now = f.now.Add(4 * time.Hour)
		if _, err := f.Collect(ctx); err != nil {
			t.Fatal(err)
		}
		for _, d := range []digest.Digest{digest.FromString("layer v1"), leased, seen, young} {
			if has, _ := f.HasBlob(ctx, d); has {
				t.Errorf("blob %s is still here", d)
			}
		}
	})
}

func TestCachedManifestFollowsEveryWrite(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		read := func() string {
			m, err := f.Manifest(ctx, "a", "latest")
			if err != nil {
				return oci.AsError(err).Error()
			}
			return string(m.Digest)
		}
		v1, v2 := f.pushImage(t, "a", "v1"), f.pushImage(t, "a", "v2")
		for _, step := range []struct {
			do   func() error
			want string
		}{
			{func() error { return f.SetTag(ctx, "a", "latest", v1.Digest) }, string(v1.Digest)},
			{func() error { return f.SetTag(ctx, "a", "latest", v2.Digest) }, string(v2.Digest)},
			{func() error { return f.DeleteTag(ctx, "a", "latest") }, oci.ErrManifestUnknown.Error()},
			{func() error { return f.SetTag(ctx, "a", "latest", v1.Digest) }, string(v1.Digest)},
			{func() error { return f.ChangeLocks(ctx, "a", "latest", storage.LockChange{Set: storage.NoRead}) },
				"DENIED: reading latest of a is locked: readEnabled is false; ferry repository update at the root " +
					"registry unlocks it"},
			{func() error { return f.ChangeLocks(ctx, "a", "latest", storage.LockChange{Clear: storage.NoRead}) },
				string(v1.Digest)},
			{func() error { return f.DeleteRepository(ctx, "a") }, oci.ErrManifestUnknown.Error()},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			if got := read(); got != step.want {
				t.Fatalf("latest = %s, want %s", got, step.want)
			}
		}
	})
}
