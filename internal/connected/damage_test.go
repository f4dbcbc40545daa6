package connected_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// layerOf returns the first layer of an image that [instance.push] stored.
func (s *instance) layerOf(seed string, size int) digest.Digest {
	return digest.FromBytes([]byte(strings.Repeat(seed+" 0;", size)[:size]))
}

// file returns the path of a blob's file.
func (s *instance) file(repository string, d digest.Digest) string {
	s.T.Helper()
	content, _, err := s.OpenBlob(s.T.Context(), repository, d)
	if err != nil {
		s.T.Fatal(err)
	}
	defer content.Close()
	return content.(*os.File).Name()
}

// corrupt flips a bit of a blob on the disk.
func (s *instance) corrupt(repository string, d digest.Digest) {
	s.T.Helper()
	disk, err := os.OpenFile(s.file(repository, d), os.O_RDWR, 0)
	if err != nil {
		s.T.Fatal(err)
	}
	defer disk.Close()
	one := make([]byte, 1)
	if _, err = disk.ReadAt(one, 1); err == nil { // in place, so that the file is never shorter
		_, err = disk.WriteAt([]byte{one[0] ^ 1}, 1)
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// runScrub runs the site's scrub until the end of the test.
func (s *instance) runScrub() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.scrub.Run(ctx) }()
	s.T.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			s.T.Error(err)
		}
	})
}

// whole reports whether the site serves a blob, byte for byte.
func (s *instance) whole(repository string, d digest.Digest) bool {
	content, _, err := s.OpenBlob(s.T.Context(), repository, d)
	if err != nil {
		return false
	}
	defer content.Close()
	bytes, err := io.ReadAll(content)
	return err == nil && digest.FromBytes(bytes) == d
}

// damaged returns how many blobs and manifests are out of service.
func (s *instance) damaged() int64 {
	s.T.Helper()
	sum, err := metadb.Read(s.T.Context(), s.DB, (*metadb.Tx).TotalOfDamages)
	if err != nil {
		s.T.Fatal(err)
	}
	return sum.Count
}

func hasDetail(s *wire.Status, code string) bool {
	return slices.ContainsFunc(s.Details, func(d wire.StatusDetail) bool { return d.Code == code })
}

// corruptManifest changes a manifest in the database.
func (s *instance) corruptManifest(repository string, d digest.Digest) {
	s.T.Helper()
	err := s.DB.Update(s.T.Context(), func(tx *metadb.Tx) error {
		m, err := tx.Manifest(repository, string(d))
		if err != nil {
			return err
		}
		children, err := tx.Children(repository, string(d))
		if err != nil {
			return err
		}
		if err := tx.DeleteManifest(repository, string(d), s.Uptime()); err != nil {
			return err
		}
		m.Payload = append([]byte(" "), m.Payload...)
		_, err = tx.PutManifest(m, children)
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
}

// verify makes the site read all stored content again.
func (s *instance) verify() {
	s.T.Helper()
	if err := s.scrub.Start(s.T.Context()); err != nil {
		s.T.Fatal(err)
	}
}

// awaitDamageFound waits until the site takes a blob out of service, maybe for a moment only.
func (s *instance) awaitDamageFound() {
	s.T.Helper()
	await(s.T, s.name+" finds the damage", func() bool { return s.log.count("blob is damaged") == 1 })
}

// awaitWhole waits until the site serves a blob again, and fails the test if that takes more than
// a second. Nothing else would end the agent's wait so soon.
func (s *instance) awaitWhole(repository string, d digest.Digest) {
	s.T.Helper()
	from := time.Now()
	await(s.T, s.name+" has the blob", func() bool { return s.whole(repository, d) })
	if took := time.Since(from); took > time.Second {
		s.T.Errorf("%s has the blob after %v", s.name, took)
	}
}

func TestDamageIsHealedWithinASecond(t *testing.T) {
	layer := digest.FromBytes([]byte(strings.Repeat("1 0;", large)[:large]))
	for name, damage := range map[string]func(ship *instance, image digest.Digest){
		"a scrub": func(ship *instance, _ digest.Digest) {
			ship.corrupt("app/a", layer)
			ship.verify()
			ship.awaitDamageFound()
		},
		"a check of the files": func(ship *instance, _ digest.Digest) {
			if err := os.Remove(ship.file("app/a", layer)); err != nil {
				ship.T.Fatal(err)
			}
			if lost, err := ship.scrub.CheckFiles(ship.T.Context()); lost != 1 || err != nil {
				ship.T.Fatalf("CheckFiles = %d, %v", lost, err)
			}
		},
		"a pull of the blob": func(ship *instance, _ digest.Digest) {
			if err := os.Remove(ship.file("app/a", layer)); err != nil {
				ship.T.Fatal(err)
			}
			if ship.whole("app/a", layer) {
				ship.T.Fatal("the ship serves a blob that it lost")
			}
		},
		"a suspicion": func(ship *instance, _ digest.Digest) {
			ship.corrupt("app/a", layer)
			ship.scrub.Suspect(layer)
			ship.awaitDamageFound()
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, ship, image := newPair(t, large)
				ship.runScrub()
				time.Sleep(10*time.Minute + 5*time.Second) // the parent holds a poll
				damage(ship, image)
				ship.awaitWhole("app/a", layer)
			})
		})
	}
}

func TestPulledManifestIsHealedWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ship, image := newPair(t, large)
		time.Sleep(10*time.Minute + 5*time.Second)
		ship.corruptManifest("app/a", image)
		from := time.Now()
		await(t, "the ship serves the image", func() bool {
			_, err := ship.Storage.Manifest(t.Context(), "app/a", string(image))
			return err == nil
		})
		if took := time.Since(from); took > time.Second {
			t.Errorf("the manifest is served after %v", took)
		}
	})
}

// TestDamageThatAChildFindsIsHealed is about damage that a parent, a connected registry itself,
// does not see until its own child asks for the content.
func TestDamageThatAChildFindsIsHealed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ship, image := newPair(t, large)
		ship.runScrub()
		layer := ship.layerOf("1", large)
		time.Sleep(10*time.Minute + 5*time.Second)
		ship.corrupt("app/a", layer)
		cabin := ship.connect("cabin1", api.RegistryPut{})
		ship.awaitDamageFound()
		ship.awaitWhole("app/a", layer)
		from := time.Now()
		cabin.awaitTag("app/a", "v1", image)
		if took := time.Since(from); took > 10*time.Second {
			t.Errorf("the cabin has the image %v after the ship has the layer", took)
		}
	})
}

func TestDamageAtTwoLevelsIsHealedWithinAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ship, image := newPair(t, large)
		cabin := ship.connect("cabin1", api.RegistryPut{})
		cabin.awaitTag("app/a", "v1", image)
		ship.runScrub()
		cabin.runScrub()
		layer := ship.layerOf("1", large)
		time.Sleep(10*time.Minute + 5*time.Second)
		ship.corrupt("app/a", layer)
		cabin.corrupt("app/a", layer)
		desk := cabin.connect("desk1", api.RegistryPut{})
		from := time.Now()
		desk.awaitTag("app/a", "v1", image)
		if took := time.Since(from); took > time.Minute {
			t.Errorf("the third level has the image after %v", took)
		}
	})
}

func TestDamageWhilePausedIsNotPolledInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, large)
		var layers []digest.Digest
		for i := range 300 {
			seed := fmt.Sprint("more", i)
			root.push("app/b", seed, seed, 20)
			layers = append(layers, root.layerOf(seed, 20))
		}
		await(t, "the ship is in sync", func() bool {
			return ship.whole("app/b", layers[299]) && ship.agent.Status().ItemsPending == 0
		})
		ship.agent.Pause(t.Context())
		time.Sleep(10 * time.Minute)
		before := len(ship.polls.all())
		for _, layer := range layers {
			ship.corrupt("app/b", layer)
			if reason, err := ship.VerifyBlob(t.Context(), layer, storage.Unpaced); reason == "" || err != nil {
				t.Fatalf("VerifyBlob = %q, %v", reason, err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(5 * time.Minute)
		if n := len(ship.polls.all()) - before; n > 200 {
			t.Errorf("%d polls while syncs are paused", n)
		}
	})
}

func TestDamageIsHealedFromTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large, 10)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.runScrub()
		ship.awaitTag("app/a", "v1", d)
		await(t, "the ship is in sync", func() bool { return ship.agent.Status().ItemsPending == 0 })

		layer := ship.layerOf("1", large)
		ship.agent.Pause(t.Context())
		ship.corrupt("app/a", layer)
		if err := ship.scrub.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		await(t, "the damage is found", func() bool { return ship.damaged() == 1 })
		if _, _, err := ship.OpenBlob(t.Context(), "app/a", layer); err == nil ||
			!strings.Contains(err.Error(), "damaged") {
			t.Errorf("the damaged layer: %v", err)
		}
		if s := ship.agent.Status(); s.ItemsPending != 1 || !hasDetail(s, "Damaged") {
			t.Errorf("status with a damaged layer: %+v", s)
		}
		ship.agent.Resume(t.Context())
		await(t, "the layer is whole", func() bool { return ship.whole("app/a", layer) })
		await(t, "the ship is in sync", func() bool { return ship.agent.Status().ItemsPending == 0 })
		if s := ship.agent.Status(); ship.damaged() != 0 || hasDetail(s, "Damaged") {
			t.Errorf("status once it is healed: %+v", s)
		}
	})
}

func TestResyncFindsLostFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, large)
		layer := ship.layerOf("1", large)
		path := ship.file("app/a", layer)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if _, err := root.fleet.Resync(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "the layer is here again", func() bool {
			_, err := os.Stat(path)
			return err == nil && ship.whole("app/a", layer)
		})
	})
}

func TestResyncCanVerifyAllContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		ship := root.connect("ship1", api.RegistryPut{})
		ship.runScrub()
		ship.awaitTag("app/a", "v1", d)
		layer := ship.layerOf("1", large)
		ship.corrupt("app/a", layer)
		if _, err := root.fleet.ResyncAndVerify(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "the layer is whole", func() bool { return ship.whole("app/a", layer) })
	})
}

// TestWrongContentIsVerifiedAtTheParent has damage at the parent that nobody notices until a child
// gets the blob.
func TestWrongContentIsVerifiedAtTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		layer := root.layerOf("1", large)
		root.corrupt("app/a", layer)
		root.runScrub()
		ship := root.connect("ship1", api.RegistryPut{})
		await(t, "the root finds the damage", func() bool { return root.damaged() == 1 })
		if !ship.serves("app/a", "v1", "") {
			t.Error("the ship serves an image of which it has no layer")
		}
		root.push("app/a", "1", "v1", large) // the same content
		ship.awaitTag("app/a", "v1", d)
		if root.damaged() != 0 || !ship.whole("app/a", layer) {
			t.Errorf("damaged at the root: %d; the layer is whole at the ship: %v", root.damaged(),
				ship.whole("app/a", layer))
		}
	})
}

// lose deletes the file of a blob, and has a pull find that out.
func (s *instance) lose(repository string, d digest.Digest) {
	s.T.Helper()
	if err := os.Remove(s.file(repository, d)); err != nil {
		s.T.Fatal(err)
	}
	if s.whole(repository, d) {
		s.T.Fatalf("%s serves a blob that it lost", s.name)
	}
}

// newChain returns a root with the image app/a:v1, the site ship1 below it, and cabin1 below that,
// all in sync.
func newChain(t *testing.T) (root, ship, cabin *instance, image digest.Digest) {
	t.Helper()
	root, ship, image = newPair(t, large)
	cabin = ship.connect("cabin1", api.RegistryPut{})
	cabin.awaitTag("app/a", "v1", image)
	time.Sleep(10*time.Minute + 5*time.Second) // the parents hold polls
	return root, ship, cabin, image
}

func TestHealedParentWakesTheChildThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ship, cabin, _ := newChain(t)
		layer := ship.layerOf("1", large)
		if err := os.Remove(ship.file("app/a", layer)); err != nil { // which the cabin's request finds
			t.Fatal(err)
		}
		cabin.lose("app/a", layer)
		from := time.Now()
		await(t, "the cabin has the blob", func() bool { return cabin.whole("app/a", layer) })
		if took := time.Since(from); took > 3*time.Second {
			t.Errorf("the cabin has the blob after %v", took)
		}
	})
}

func TestRepairedContentHealsEveryLevelAtOnce(t *testing.T) {
	layer := digest.FromBytes([]byte(strings.Repeat("1 0;", large)[:large]))
	whole := func(s *instance, image digest.Digest) bool {
		_, err := s.Storage.Manifest(s.T.Context(), "app/a", string(image))
		return err == nil && s.whole("app/a", layer)
	}
	for name, test := range map[string]struct {
		damage func(s *instance, image digest.Digest)
		repair func(root *instance)
	}{
		"a pushed blob": {
			func(s *instance, _ digest.Digest) { s.lose("app/a", layer) },
			func(root *instance) { root.push("app/a", "1", "v1", large) },
		},
		"a pushed manifest": {
			func(s *instance, image digest.Digest) {
				s.corruptManifest("app/a", image)
				if _, reason, err := s.VerifyManifest(s.T.Context(), "app/a", image); reason == "" || err != nil {
					s.T.Fatalf("VerifyManifest = %q, %v", reason, err)
				}
			},
			func(root *instance) { root.push("app/a", "1", "v1", large) },
		},
		"a file that is back": {
			func(s *instance, _ digest.Digest) {
				path := s.file("app/a", layer)
				if err := os.Rename(path, path+".away"); err != nil {
					s.T.Fatal(err)
				}
				if s.whole("app/a", layer) {
					s.T.Fatal("a lost blob is served")
				}
			},
			func(root *instance) {
				root.T.Helper()
				directory := filepath.Dir(root.file("app/b", root.layerOf("2", 10)))
				away, err := filepath.Glob(filepath.Join(directory, "*.away"))
				if err != nil || len(away) != 1 {
					root.T.Fatalf("files that are away: %v, %v", away, err)
				}
				if err := os.Rename(away[0], strings.TrimSuffix(away[0], ".away")); err != nil {
					root.T.Fatal(err)
				}
				if has, err := root.HasBlob(root.T.Context(), layer); !has || err != nil {
					root.T.Fatalf("HasBlob = %v, %v", has, err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root, ship, cabin, image := newChain(t)
				root.push("app/b", "2", "v1", 10)
				for _, s := range []*instance{root, ship, cabin} {
					test.damage(s, image)
				}
				time.Sleep(20 * time.Minute) // the pauses between retries are long
				polls := len(ship.polls.all()) + len(cabin.polls.all())
				test.repair(root)
				from := time.Now()
				await(t, "every level is whole", func() bool {
					return whole(root, image) && whole(ship, image) && whole(cabin, image)
				})
				if took := time.Since(from); took > 5*time.Second {
					t.Errorf("every level is whole after %v", took)
				}
				time.Sleep(30 * time.Second)
				if n := len(ship.polls.all()) + len(cabin.polls.all()) - polls; n > 20 {
					t.Errorf("the repair caused %d polls", n)
				}
			})
		})
	}
}

func TestManyRepairsAreFollowedByFewPolls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, large)
		var layers []digest.Digest
		for i := range 100 {
			seed := fmt.Sprint("more", i)
			root.push("app/b", seed, seed, 20)
			layers = append(layers, root.layerOf(seed, 20))
		}
		await(t, "the ship is in sync", func() bool {
			return ship.whole("app/b", layers[99]) && ship.agent.Status().ItemsPending == 0
		})
		time.Sleep(10 * time.Minute)
		for _, layer := range layers {
			root.lose("app/b", layer)
		}
		before := len(ship.polls.all())
		for i := range layers {
			seed := fmt.Sprint("more", i)
			root.push("app/b", seed, seed, 20)
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if n := len(ship.polls.all()) - before; n > 10 {
			t.Errorf("100 repairs in 5 seconds caused %d polls", n)
		}
	})
}
