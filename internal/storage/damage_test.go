package storage_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// file returns the path of a blob's file.
func (f *fixture) file(d digest.Digest) string {
	return filepath.Join(f.dir, "blobs", string(d.Algorithm()), d.Encoded())
}

// corrupt changes the content of a blob's file, as a worn disk does.
func (f *fixture) corrupt(t *testing.T, d digest.Digest) {
	t.Helper()
	content, err := os.ReadFile(f.file(d))
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(f.file(d), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// verify reads a blob again, and returns the reason if it is damaged.
func (f *fixture) verify(t *testing.T, d digest.Digest) (reason string) {
	t.Helper()
	reason, err := f.VerifyBlob(t.Context(), d, storage.Unpaced)
	if err != nil {
		t.Fatal(err)
	}
	return reason
}

// damaged returns the content that is out of service.
func (f *fixture) damaged(t *testing.T) []storage.Damage {
	t.Helper()
	all, err := metadb.Read(t.Context(), f.DB,
		func(tx *metadb.Tx) ([]storage.Damage, error) { return tx.Damages("", "", 10) })
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestCommitReplacesAnExistingFile(t *testing.T) {
	storagetest.OnlyFiles(t)
	commits := map[string]func(t *testing.T, f *fixture, d digest.Digest, content []byte){
		"upload": func(t *testing.T, f *fixture, d digest.Digest, content []byte) { f.push(t, "a", content) },
		"small blob": func(t *testing.T, f *fixture, d digest.Digest, content []byte) {
			if err := f.PutBlob(t.Context(), "a", d, content); err != nil {
				t.Fatal(err)
			}
		},
		"transfer": func(t *testing.T, f *fixture, d digest.Digest, content []byte) {
			tr, err := f.Transfer(t.Context(), d, int64(len(content)))
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			if _, err := tr.Write(t.Context(), content, 0); err != nil {
				t.Fatal(err)
			}
			if err := tr.Commit(t.Context(), "a"); err != nil {
				t.Fatal(err)
			}
		},
	}
	for name, commit := range commits {
		t.Run(name, func(t *testing.T) {
			run(t, func(t *testing.T, f *fixture) {
				d := f.push(t, "a", []byte("content"))
				f.corrupt(t, d)
				commit(t, f, d, []byte("content"))
				if got := f.content(t, "a", d); got != "content" {
					t.Errorf("the blob is %q", got)
				}
				if partials, err := os.ReadDir(filepath.Join(f.dir, "partial")); len(partials) > 0 || err != nil {
					t.Errorf("partials are left: %v, %v", partials, err)
				}
			})
		})
	}
}

func TestEveryAccessFindsALostFile(t *testing.T) {
	loss := map[string]func(path string) error{
		"gone":  os.Remove,
		"short": func(path string) error { return os.Truncate(path, 3) },
	}
	looks := map[string]func(t *testing.T, f *fixture, m *storage.Manifest, layer digest.Digest){
		"stat": func(t *testing.T, f *fixture, _ *storage.Manifest, layer digest.Digest) {
			if _, err := f.StatBlob(t.Context(), "a", layer); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("StatBlob = %v", err)
			}
		},
		"open": func(t *testing.T, f *fixture, _ *storage.Manifest, layer digest.Digest) {
			_, _, err := f.OpenBlob(t.Context(), "a", layer)
			if !errors.Is(err, oci.ErrBlobUnknown) || !strings.Contains(err.Error(), "damaged") {
				t.Errorf("OpenBlob = %v, which does not say why", err)
			}
		},
		"manifest": func(t *testing.T, f *fixture, m *storage.Manifest, _ digest.Digest) {
			_, err := f.PutManifest(t.Context(), storage.Put{Repository: "a", Payload: m.Payload, Tags: []string{"v2"}})
			if !errors.Is(err, oci.ErrManifestBlobUnknown) {
				t.Errorf("PutManifest = %v", err)
			}
		},
		"check": func(t *testing.T, f *fixture, _ *storage.Manifest, _ digest.Digest) {
			if lost, err := f.CheckFiles(t.Context()); lost != 1 || err != nil {
				t.Errorf("CheckFiles = %d, %v", lost, err)
			}
		},
		"whole": func(t *testing.T, f *fixture, m *storage.Manifest, _ digest.Digest) {
			if whole, err := f.IsWhole(t.Context(), "a", m.Digest); whole || err != nil {
				t.Errorf("IsWhole = %v, %v", whole, err)
			}
		},
	}
	for how, lose := range loss {
		for name, look := range looks {
			t.Run(how+" "+name, func(t *testing.T) {
				run(t, func(t *testing.T, f *fixture) {
					m := f.pushImage(t, "a", "v1")
					layer := digest.FromString("layer v1")
					if err := lose(f.file(layer)); err != nil {
						t.Fatal(err)
					}
					look(t, f, m, layer)
					if all := f.damaged(t); len(all) != 1 || all[0].Digest != string(layer) {
						t.Fatalf("damaged are %v", all)
					}
					f.push(t, "a", []byte("layer v1"))
					if _, err := f.PutManifest(t.Context(),
						storage.Put{Repository: "a", Payload: m.Payload, Tags: []string{"v2"}}); err != nil {
						t.Error(err)
					}
					if all := f.damaged(t); len(all) != 0 {
						t.Errorf("damaged are %v after a push", all)
					}
				})
			})
		}
	}
}

func TestDamagedBlobIsOutOfServiceUntilPushed(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.pushImage(t, "a", "v1")
		layer := digest.FromString("layer v1")
		if reason := f.verify(t, layer); reason != "" {
			t.Fatalf("a whole blob: %s", reason)
		}
		f.corrupt(t, layer)
		if reason := f.verify(t, layer); !strings.Contains(reason, "changed") {
			t.Errorf("a corrupted blob: %q", reason)
		}
		for name, look := range map[string]func() error{
			"OpenBlob": func() error { _, _, err := f.OpenBlob(t.Context(), "a", layer); return err },
			"StatBlob": func() error { _, err := f.StatBlob(t.Context(), "a", layer); return err },
		} {
			if err := look(); !errors.Is(err, oci.ErrBlobUnknown) ||
				!strings.Contains(err.Error(), "its content changed on the disk") {
				t.Errorf("%s = %v", name, err)
			}
		}
		if _, err := f.StatBlob(t.Context(), "b", layer); err == nil || strings.Contains(err.Error(), "damaged") {
			t.Errorf("a repository without the blob says %v", err)
		}
		if has, err := f.HasBlob(t.Context(), layer); has || err != nil {
			t.Errorf("HasBlob = %v, %v", has, err)
		}
		if mounted, err := f.Mount(t.Context(), "b", "a", layer); mounted || err != nil {
			t.Errorf("Mount = %v, %v", mounted, err)
		}
		f.later(t, 48*time.Hour)
		if all := f.damaged(t); len(all) != 1 {
			t.Errorf("a collection leaves %v of the damage", all)
		}
		f.push(t, "a", []byte("layer v1"))
		if got := f.content(t, "a", layer); got != "layer v1" {
			t.Errorf("the blob is %q after a push", got)
		}
		if reason := f.verify(t, layer); reason != "" || len(f.damaged(t)) != 0 {
			t.Errorf("after a push: %q, %v", reason, f.damaged(t))
		}
	})
}

func TestDamagedBlobThatIsWholeAgainIsRevived(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("content"))
		f.corrupt(t, d)
		f.verify(t, d)
		if revived, err := f.ReviveBlob(t.Context(), d, storage.Unpaced); revived || err != nil {
			t.Errorf("a corrupted blob is revived: %v, %v", revived, err)
		}
		f.corrupt(t, d) // the same bit again
		if revived, err := f.ReviveBlob(t.Context(), d, storage.Unpaced); !revived || err != nil {
			t.Errorf("a whole blob is not revived: %v, %v", revived, err)
		}
		if got := f.content(t, "a", d); got != "content" {
			t.Errorf("the blob is %q", got)
		}
	})
}

func TestDamageOfUnneededContentCountsForNothing(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		m := f.pushImage(t, "a", "v1")
		f.corrupt(t, digest.FromString("layer v1"))
		f.verify(t, digest.FromString("layer v1"))
		if all := f.damaged(t); len(all) != 1 {
			t.Fatalf("damaged are %v", all)
		}
		if err := f.DeleteManifest(t.Context(), "a", m.Digest); err != nil {
			t.Fatal(err)
		}
		sum, err := metadb.Read(t.Context(), f.DB, (*metadb.Tx).TotalOfDamages)
		if all := f.damaged(t); len(all) != 0 || sum.Count != 0 || err != nil {
			t.Errorf("damaged are %v, %+v, %v, though no image needs them", all, sum, err)
		}
	})
}

func TestDamageOfUnneededContentIsForgotten(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("content"))
		f.corrupt(t, d)
		f.verify(t, d)
		f.later(t, 2*time.Hour) // the link
		f.later(t, time.Hour)   // the file is an orphan
		f.later(t, storage.OrphanAge+time.Hour)
		any, err := metadb.Read(t.Context(), f.DB, (*metadb.Tx).AnyDamage)
		if _, missing := os.Stat(f.file(d)); !errors.Is(missing, os.ErrNotExist) || any || err != nil {
			t.Errorf("left are the file, %v, or its damage: %v, %v", missing, any, err)
		}
	})
}

func TestDamagedManifestIsOutOfServiceUntilPushed(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		config, layer := f.push(t, "a", []byte("config")), f.push(t, "a", []byte("layer"))
		payload := image(config, layer)
		corrupted := append([]byte{}, payload...)
		corrupted[len(corrupted)/2] ^= 1
		d := digest.FromBytes(payload)
		err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
			row := metadb.Manifest{Repository: "a", Digest: d, MediaType: oci.MediaTypeImageManifest, Annotations: "{}",
				Payload: corrupted}
			_, err := tx.PutManifest(row, []metadb.Child{{Digest: string(config)}, {Digest: string(layer)}})
			if err == nil {
				err = tx.SetTag("a", "v1", string(d), 1, f.now)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{"v1", string(d)} {
			_, err := f.Manifest(t.Context(), "a", reference)
			if !errors.Is(err, oci.ErrManifestUnknown) || !strings.Contains(err.Error(), "changed in the database") {
				t.Errorf("Manifest(%s) = %v", reference, err)
			}
		}
		if all := f.damaged(t); len(all) != 1 || all[0].Digest != string(d) || all[0].Repository != "a" {
			t.Errorf("damaged are %v", all)
		}
		if err := f.SetTag(t.Context(), "a", "v2", d); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("SetTag = %v", err)
		}
		if _, err := f.PutManifest(t.Context(), storage.Put{Repository: "a", Payload: payload}); err != nil {
			t.Fatal(err)
		}
		m, err := f.Manifest(t.Context(), "a", "v1")
		if err != nil || string(m.Payload) != string(payload) || len(f.damaged(t)) != 0 {
			t.Errorf("after a push: %v, %v", err, f.damaged(t))
		}
		if size, reason, err := f.VerifyManifest(t.Context(), "a", d); size != int64(len(payload)) || reason != "" ||
			err != nil {
			t.Errorf("VerifyManifest = %d, %q, %v after a push", size, reason, err)
		}
	})
}

func TestVerifyFindsADamagedManifestInTheCache(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		m := f.pushImage(t, "a", "v1")
		if _, err := f.Manifest(t.Context(), "a", "v1"); err != nil {
			t.Fatal(err)
		}
		err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
			if err := tx.DeleteManifest("a", string(m.Digest), f.Uptime()); err != nil {
				return err
			}
			row := *m
			row.Payload = append([]byte(" "), m.Payload...)
			_, err := tx.PutManifest(row, nil)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, reason, err := f.VerifyManifest(t.Context(), "a", m.Digest); reason == "" || err != nil {
			t.Errorf("VerifyManifest = %q, %v", reason, err)
		}
		if _, err := f.Manifest(t.Context(), "a", "v1"); !errors.Is(err, oci.ErrManifestUnknown) {
			t.Errorf("Manifest = %v", err)
		}
	})
}

// TestDamageMakesDependentItemsPending includes an index above the image, and a referrer below it.
func TestDamageMakesDependentItemsPending(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		amd := f.Push("a", f.Image("a", "config", []byte("layer")))
		index := f.Push("a", storagetest.Index(amd), "v1")
		signature := f.Image("a", "signed", []byte("signature"))
		signature.Subject = &index
		f.Push("a", signature)
		other := f.Push("a", f.Image("a", "other", []byte("other")), "v2")
		put := func(tx *metadb.Tx, source, tag string, d digest.Digest) error {
			return tx.PutSyncItem(metadb.SyncItem{Source: source, Repository: "a", Item: tag, Tag: tag,
				Digest: string(d),
				State:  "synced", ChangedAt: f.now, SyncedAt: f.now})
		}
		states := func() (got string) {
			err := f.DB.View(t.Context(), func(tx *metadb.Tx) error {
				for _, tag := range []string{"v1", "v2"} {
					item, err := tx.SyncItem("", "a", tag)
					if err != nil {
						return err
					}
					got += tag + " " + item.State + " "
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		for _, blob := range []string{"layer", "signature"} {
			err := f.DB.Update(t.Context(), func(tx *metadb.Tx) error {
				return errors.Join(put(tx, "", "v1", index.Digest), put(tx, "", "v2", other.Digest))
			})
			if err != nil {
				t.Fatal(err)
			}
			f.corrupt(t, digest.FromString(blob))
			f.verify(t, digest.FromString(blob))
			if got := states(); got != "v1 pending v2 synced " {
				t.Errorf("damage of the %s: %s", blob, got)
			}
		}
	})
}

// TestFilesThatReappearAreNotFetchedAgain is about a disk that is away for a while.
func TestFilesThatReappearAreNotFetchedAgain(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.pushImage(t, "a", "v1")
		layer := digest.FromString("layer v1")
		for i := range 30 {
			f.push(t, "a", []byte{byte(i)})
		}
		blobs := filepath.Join(f.dir, "blobs")
		if err := errors.Join(os.Rename(blobs, blobs+".away"),
			os.MkdirAll(filepath.Join(blobs, "sha256"), 0o700)); err != nil {
			t.Fatal(err)
		}
		if lost, err := f.CheckFiles(t.Context()); lost != 0 || !errors.Is(err, storage.ErrManyLost) ||
			len(f.damaged(t)) != 0 {
			t.Errorf("CheckFiles without the disk = %d, %v; damaged are %v", lost, err, f.damaged(t))
		}
		if has, err := f.HasBlob(t.Context(), layer); has || err != nil || len(f.damaged(t)) != 1 {
			t.Errorf("HasBlob without the disk = %v, %v; damaged are %v", has, err, f.damaged(t))
		}
		if err := errors.Join(os.RemoveAll(blobs), os.Rename(blobs+".away", blobs)); err != nil {
			t.Fatal(err)
		}
		if has, err := f.HasBlob(t.Context(), layer); !has || err != nil || len(f.damaged(t)) != 0 {
			t.Errorf("HasBlob with the disk = %v, %v; damaged are %v", has, err, f.damaged(t))
		}
	})
}

// TestUploadMovesBackOnlyItsOwnFile has a damaged blob, and an upload of it with an empty
// partial: after a crash in its commit, and after a loss.
func TestUploadMovesBackOnlyItsOwnFile(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		d := f.push(t, "a", []byte("content"))
		f.corrupt(t, d)
		f.verify(t, d)

		lost := f.begin(t, "a", "content")
		if err := os.Truncate(filepath.Join(f.dir, "partial", "upload-"+lost), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := f.ResumeUpload(t.Context(), "a", lost); !errors.Is(err, oci.ErrBlobUploadUnknown) {
			t.Errorf("an upload that lost its content goes on with the damaged file: %v", err)
		}

		crashed := f.begin(t, "a", "content")
		if err := storagetest.Blobs(t, f.dir).Commit(t.Context(), "upload-"+crashed, d); err != nil {
			t.Fatal(err)
		}
		if err := f.resume(t, "a", crashed).Commit(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if got := f.content(t, "a", d); got != "content" || len(f.damaged(t)) != 0 {
			t.Errorf("the blob is %q; damaged are %v", got, f.damaged(t))
		}
	})
}

func TestUnrecordedReplacementKeepsTheUpload(t *testing.T) {
	f, _, raw := onDisk(t)
	d := f.push(t, "a", []byte("content"))
	f.corrupt(t, d)
	id := f.begin(t, "a", "content")
	restore := breakTable(t, raw, "repository_blobs")
	if err := f.resume(t, "a", id).Commit(t.Context(), d); err == nil {
		t.Fatal("Commit succeeded without its table")
	}
	restore()
	if err := f.resume(t, "a", id).Commit(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if got := f.content(t, "a", d); got != "content" {
		t.Errorf("the blob is %q", got)
	}
}

func TestDirectoryInPlaceOfABlobFileIsDamage(t *testing.T) {
	storagetest.OnlyFiles(t)
	run(t, func(t *testing.T, f *fixture) {
		f.Push("a", f.Image("a", "config", []byte("layer")), "v1")
		layer, config := digest.FromString("layer"), digest.FromString("config")
		for _, d := range []digest.Digest{layer, config} {
			if err := os.Remove(f.file(d)); err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(f.file(d), "not of Ferry"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if _, _, err := f.OpenBlob(t.Context(), "a", layer); !errors.Is(err, oci.ErrBlobUnknown) {
				t.Errorf("OpenBlob = %v, want %v", err, oci.ErrBlobUnknown)
			}
		}
		if _, err := f.StatBlob(t.Context(), "a", config); !errors.Is(err, oci.ErrBlobUnknown) {
			t.Errorf("StatBlob = %v, want %v", err, oci.ErrBlobUnknown)
		}
		if all := f.damaged(t); len(all) != 2 {
			t.Errorf("damaged are %v", all)
		}
		f.push(t, "a", []byte("layer"))
		r, _, err := f.OpenBlob(t.Context(), "a", layer)
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
	})
}
