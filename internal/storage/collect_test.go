package storage_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// later advances the clock, and collects.
func (f *fixture) later(t *testing.T, by time.Duration) storage.Collected {
	t.Helper()
	f.now = f.now.Add(by)
	got, err := f.Collect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// TestHeadBlobProtectsABlobOfAnotherRepository is about a client that finds a blob with HEAD
// and skips its upload. A manifest of another repository needs the blob, but does not keep it
// for this repository.
func TestHeadBlobProtectsABlobOfAnotherRepository(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		config, layer := f.push(t, "a", []byte("config v1")), f.push(t, "a", []byte("layer v1"))
		f.pushImage(t, "b", "v1")
		f.now = f.now.Add(2 * time.Hour)
		for _, d := range []digest.Digest{config, layer} {
			if _, err := f.StatBlob(t.Context(), "a", d); err != nil {
				t.Fatal(err)
			}
		}
		f.later(t, 20*time.Minute)
		if _, err := f.PutManifest(t.Context(),
			storage.Put{Repository: "a", Payload: image(config, layer)}); err != nil {
			t.Error(err)
		}
	})
}

func TestHeadBlobProtectsBlobAfterManifestDelete(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		m := f.pushImage(t, "a", "v1")
		f.now = f.now.Add(24 * time.Hour)
		config, layer := digest.FromString("config v1"), digest.FromString("layer v1")
		for _, d := range []digest.Digest{config, layer} {
			if _, err := f.StatBlob(t.Context(), "a", d); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.DeleteManifest(t.Context(), "a", m.Digest); err != nil {
			t.Fatal(err)
		}
		f.later(t, 50*time.Minute)
		if _, err := f.PutManifest(t.Context(),
			storage.Put{Repository: "a", Payload: image(config, layer)}); err != nil {
			t.Error(err)
		}
	})
}

func TestHeadBlobHidesBlobsOfOtherRepositories(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("x"))
		f.now = f.now.Add(2 * time.Hour)
		if _, err := f.StatBlob(t.Context(), "b", d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("StatBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if err := f.DeleteBlob(t.Context(), "a", d); err != nil {
			t.Fatal(err)
		}
		if _, err := f.StatBlob(t.Context(), "a", d); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("StatBlob after DeleteBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if ok, err := f.Mount(t.Context(), "b", "a", d); ok || err != nil {
			t.Errorf("Mount from where it is no more = %v, %v", ok, err)
		}
	})
}

func TestOrphansAreKeptForAWeek(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		f.pushImage(t, "a", "v1")
		upload := f.begin(t, "a", "upload")
		write := func(names ...string) {
			t.Helper()
			for _, name := range names {
				if err := os.WriteFile(filepath.Join(f.dir, name), []byte("12345"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		there := func(when string, all map[string]bool) {
			t.Helper()
			for name, want := range all {
				if _, err := os.Stat(filepath.Join(f.dir, name)); (err == nil) != want {
					t.Errorf("%s: %s: %v, want it there: %v", when, name, err, want)
				}
			}
		}
		orphan, wanted := digest.SHA512.FromString("orphan"), digest.FromString("layer v2")
		late := digest.FromString("late")
		old := []string{
			"blobs/sha512/" + orphan.Encoded(), "partial/upload-gone", "partial/small-gone",
			"partial/transfer-sha512-" + orphan.Encoded(),
		}
		write(old...)
		write("blobs/sha256/" + wanted.Encoded())
		f.later(t, time.Hour) // it finds the orphans
		write("blobs/sha256/" + late.Encoded())
		f.later(t, storage.OrphanAge-time.Hour)
		f.pushImage(t, "a", "v2")
		for _, name := range old {
			there("within a week", map[string]bool{name: true})
		}
		f.step = 50 * 365 * 24 * time.Hour
		if got := f.later(t, 2*time.Hour); got.Blobs != 1 || got.Bytes != 5 {
			t.Errorf("Collect = %+v, want one blob of 5 bytes", got)
		}
		for _, name := range old {
			there("after a week", map[string]bool{name: false})
		}
		there("after a week", map[string]bool{
			"blobs/sha256/" + late.Encoded(): true, "blobs/sha256/" + wanted.Encoded(): true,
			"blobs/sha256/" + digest.FromString("layer v1").Encoded(): true,
			"partial/upload-" + upload:                                false, // stale after a week
		})
	})
}

func TestFullDiskKeepsOrphansForTheGracePeriod(t *testing.T) {
	storagetest.OnlyFiles(t)
	f, disk, _ := onDisk(t)
	orphan := filepath.Join(f.dir, "blobs/sha256", digest.FromString("orphan").Encoded())
	if err := os.WriteFile(orphan, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f.later(t, 0)
	disk.full.Store(true)
	if err := f.PutBlob(t.Context(), "a", digest.FromString("x"), []byte("x")); !errors.Is(err, oci.ErrNoSpace) {
		t.Fatal(err)
	}
	f.later(t, 30*time.Minute)
	if _, err := os.Stat(orphan); err != nil {
		t.Errorf("within the grace period: %v", err)
	}
	if got := f.later(t, 40*time.Minute); got.Blobs != 1 {
		t.Errorf("Collect = %+v, want one blob", got)
	}
}

func TestTransferAdoptsAFileWithoutARow(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		content := []byte("content")
		d := digest.FromBytes(content)
		for _, onDisk := range []string{"content", "changed"} {
			path := filepath.Join(f.dir, "blobs/sha256", d.Encoded())
			if err := os.WriteFile(path, []byte(onDisk), 0o600); err != nil {
				t.Fatal(err)
			}
			f.later(t, 0)
			tr, err := f.Transfer(t.Context(), d, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			if tr.Have() != tr.Size() {
				t.Errorf("the transfer has %d bytes, want %d", tr.Have(), tr.Size())
			}
			if onDisk == "content" {
				if err := tr.Commit(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				if got := f.content(t, "a", d); got != "content" {
					t.Errorf("the blob is %q", got)
				}
				if err := f.DeleteRepository(t.Context(), "a"); err != nil {
					t.Fatal(err)
				}
				tr.Close()
				f.later(t, 2*time.Hour)
				continue
			}
			defer tr.Close()
			if err := tr.Commit(t.Context(), "a"); !errors.Is(err, oci.ErrDigestInvalid) {
				t.Errorf("Commit of changed bytes = %v, want %v", err, oci.ErrDigestInvalid)
			}
		}
	})
}

func TestCollectionLetsARunningPullFinish(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("content"))
		r, _, err := f.OpenBlob(t.Context(), "a", d)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if got := f.later(t, 2*time.Hour); got.Blobs != 1 {
			t.Fatalf("Collect = %+v, want one blob", got)
		}
		if got, err := io.ReadAll(r); string(got) != "content" || err != nil {
			t.Errorf("the pull got %q, %v", got, err)
		}
	})
}

// TestPushDuringACollectionKeepsItsBlobs pushes, mounts and checks blobs at the moment when a
// collection is about to delete them.
func TestPushDuringACollectionKeepsItsBlobs(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		for round := range 25 {
			text := func(name string) []byte { return fmt.Appendf(nil, "%s %d", name, round) }
			for _, name := range []string{"pushed", "mounted", "seen"} {
				f.push(t, "old", text(name))
			}
			f.now = f.now.Add(2 * time.Hour)
			var all sync.WaitGroup
			start := make(chan struct{})
			race := func(fn func() error) {
				all.Go(func() {
					<-start
					if err := fn(); err != nil {
						t.Error(err)
					}
				})
			}
			have := func(name string) error { // the client found it
				d := digest.FromBytes(text(name))
				_, err := f.PutManifest(ctx, storage.Put{Repository: "new", Payload: image(d, d), Tags: []string{name}})
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				r, _, err := f.OpenBlob(ctx, "new", d)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				return r.Close()
			}
			race(func() error { _, err := f.Collect(ctx); return err })
			race(func() error {
				if err := f.PutBlob(ctx, "new", digest.FromBytes(text("pushed")), text("pushed")); err != nil {
					return err
				}
				return have("pushed")
			})
			race(func() error {
				ok, err := f.Mount(ctx, "new", "old", digest.FromBytes(text("mounted")))
				if err != nil || !ok {
					return err
				}
				return have("mounted")
			})
			race(func() error {
				_, err := f.StatBlob(ctx, "old", digest.FromBytes(text("seen")))
				if errors.Is(err, oci.ErrBlobUnknown) {
					return nil
				}
				if err != nil {
					return err
				}
				d := digest.FromBytes(text("seen"))
				_, err = f.PutManifest(ctx,
					storage.Put{Repository: "old", Payload: image(d, d), Tags: []string{"seen"}})
				return err
			})
			close(start)
			all.Wait()
		}
		// At the end, all blobs that manifests need are there.
		f.later(t, 2*time.Hour)
		for round := range 25 {
			want := fmt.Sprintf("pushed %d", round)
			if got := f.content(t, "new", digest.FromString(want)); got != want {
				t.Errorf("the blob is %q, want %q", got, want)
			}
		}
	})
}

// TestClockStepMakesNothingOld sets the clock in the middle of a push and of a sync, as a time
// server does when a machine without a battery first contacts it.
func TestClockStepMakesNothingOld(t *testing.T) {
	for name, step := range map[string]time.Duration{"two hours": 2 * time.Hour,
		"fifty years": 50 * 365 * 24 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, f *fixture) {
				ctx := t.Context()
				config, layer := f.push(t, "a", []byte("config")), f.push(t, "a", []byte("layer"))
				upload := f.begin(t, "a", "upload")
				leased := digest.FromString("leased")
				if err := f.PutBlob(ctx, "b", leased, []byte("leased")); err != nil {
					t.Fatal(err)
				}
				if err := f.DeleteRepository(ctx, "b"); err != nil {
					t.Fatal(err)
				}
				if err := f.Lease(ctx, "sync", 24*time.Hour, leased); err != nil {
					t.Fatal(err)
				}
				f.step = step
				f.later(t, 10*time.Minute)
				if _, err := f.PutManifest(ctx,
					storage.Put{Repository: "a", Payload: image(config, layer)}); err != nil {
					t.Error(err)
				}
				if has, err := f.HasBlob(ctx, leased); !has || err != nil {
					t.Errorf("the leased blob: %v, %v", has, err)
				}
				f.resume(t, "a", upload).Close()
				f.step = 0 // and back
				if got := f.later(t, 24*time.Hour); got.Blobs != 1 {
					t.Errorf("a day later Collect = %+v, want the blob whose lease ended", got)
				}
			})
		})
	}
}

func TestAgesAreCountedOnAfterARestart(t *testing.T) {
	dir, ran := t.TempDir(), time.Duration(0)
	start := func() (*storage.Storage, *metadb.DB) {
		t.Helper()
		s, db, err := storagetest.Open(t.Context(), dir, storage.Options{Uptime: func() time.Duration { return ran }})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { db.Close() })
		return s, db
	}
	s, db := start()
	if err := s.PutBlob(t.Context(), "a", digest.FromString("x"), []byte("x")); err != nil {
		t.Fatal(err)
	}
	ran = 40 * time.Minute
	if err := s.SaveUptime(t.Context()); err != nil {
		t.Fatal(err)
	}
	ran = 50 * time.Minute // which a crash loses
	db.Close()
	s, _ = start()
	for _, step := range []struct {
		ran  time.Duration
		gone int
	}{{0, 0}, {15 * time.Minute, 0}, {25 * time.Minute, 1}} {
		ran = step.ran
		if got, err := s.Collect(t.Context()); got.Blobs != step.gone || err != nil {
			t.Errorf("%s after the restart Collect = %+v, %v; want %d blobs", ran, got, err, step.gone)
		}
	}
}

func TestEveryStaleUploadIsCollectedAtOnce(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		const uploads = 1100 // more than two pages
		err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
			for i := range uploads {
				row := metadb.Upload{ID: fmt.Sprint("u", i), Repository: "a", HashState: []byte{}}
				if err := tx.PutUpload(row); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := f.later(t, 8*24*time.Hour); got.Uploads != uploads {
			t.Errorf("Collect = %+v, want %d uploads", got, uploads)
		}
	})
}

// TestSlowPushKeepsItsFirstLayers sends layers one after another, each of which takes longer
// than the grace period, and then the manifest.
func TestSlowPushKeepsItsFirstLayers(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		layers := []digest.Digest{f.push(t, "a", []byte("config"))}
		unreferenced := f.push(t, "b", []byte("loose"))
		for _, content := range []string{"layer 1", "layer 2", "layer 3"} {
			id := f.begin(t, "a", content)
			f.later(t, 67*time.Minute)
			d := digest.FromString(content)
			if err := f.resume(t, "a", id).Commit(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			layers = append(layers, d)
			f.later(t, 0)
		}
		for _, layer := range layers[1:] {
			if _, err := f.PutManifest(t.Context(),
				storage.Put{Repository: "a", Payload: image(layers[0], layer)}); err != nil {
				t.Error(err)
			}
		}
		if _, _, err := f.OpenBlob(t.Context(), "b", unreferenced); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("a blob of a repository without a push: %v, want %v", err, oci.ErrBlobUnknown)
		}
	})
}

func TestEndlessPushesKeepUnreferencedLayersForADay(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		unreferenced := f.push(t, "a", []byte("loose"))
		for hour := range 26 {
			f.push(t, "a", fmt.Append(nil, "layer ", hour))
			f.later(t, time.Hour)
			_, _, err := f.OpenBlob(t.Context(), "a", unreferenced)
			if kept := hour < 24; kept != (err == nil) {
				t.Errorf("after %d hours: %v, want it kept: %v", hour+1, err, kept)
			}
		}
	})
}

func TestUndeletableFileDoesNotBlockCollection(t *testing.T) {
	f, disk, _ := onDisk(t)
	var all []digest.Digest
	for _, content := range []string{"a", "b", "c", "d"} {
		all = append(all, f.push(t, "a", []byte(content)))
	}
	slices.Sort(all) // the order in which they are deleted
	disk.stuck.Store(&all[1])
	id := f.begin(t, "a", "upload")
	f.now = f.now.Add(8 * 24 * time.Hour)
	got, err := f.Collect(t.Context())
	if !errors.Is(err, syscall.EIO) || got.Blobs != 3 || got.Uploads != 1 {
		t.Errorf("Collect = %+v, %v; want three blobs, the upload %s, and %v", got, err, id, syscall.EIO)
	}
	disk.stuck.Store(nil)
	f.later(t, 0)
	if got := f.later(t, storage.OrphanAge+time.Hour); got.Blobs != 1 {
		t.Errorf("once it can be deleted Collect = %+v, want one blob", got)
	}
}

func TestOrphansAreLogged(t *testing.T) {
	storagetest.OnlyFiles(t)
	var log strings.Builder
	dir := t.TempDir()
	files := storagetest.Blobs(t, dir)
	s := storagetest.New(t, storage.Options{Blobs: files, Log: slog.New(slog.NewTextHandler(&log, nil))})
	path := filepath.Join(dir, "blobs/sha256", digest.FromString("12345").Encoded())
	if err := os.WriteFile(path, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"files that no row knows are kept for a while", "",
		"files without a row have a row again"} {
		log.Reset()
		if _, err := s.Collect(t.Context()); err != nil {
			t.Fatal(err)
		}
		if want == "" && log.Len() > 0 || !strings.Contains(log.String(), want) {
			t.Errorf("the log says %q, want %q", &log, want)
		}
		if want == "" {
			s.PushBlob("a", []byte("12345"))
		}
	}
}
