package connected_test

import (
	"context"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// layerOf returns the first layer of an image that [site.push] stored.
func (s *site) layerOf(seed string, size int) digest.Digest {
	return digest.FromBytes([]byte(strings.Repeat(seed+" 0;", size)[:size]))
}

// file is where a blob is kept, as the one who serves it says.
func (s *site) file(repository string, d digest.Digest) string {
	s.T.Helper()
	content, _, err := s.OpenBlob(s.T.Context(), repository, d)
	if err != nil {
		s.T.Fatal(err)
	}
	defer content.Close()
	return content.(*os.File).Name()
}

// spoil flips a bit of a blob on the disk.
func (s *site) spoil(repository string, d digest.Digest) {
	s.T.Helper()
	disk, err := os.OpenFile(s.file(repository, d), os.O_RDWR, 0)
	if err != nil {
		s.T.Fatal(err)
	}
	defer disk.Close()
	one := make([]byte, 1)
	if _, err = disk.ReadAt(one, 1); err == nil { // in its place: the file is never shorter
		_, err = disk.WriteAt([]byte{one[0] ^ 1}, 1)
	}
	if err != nil {
		s.T.Fatal(err)
	}
}

// runScrub lets the site's scrub run until the test's end.
func (s *site) runScrub() {
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
func (s *site) whole(repository string, d digest.Digest) bool {
	content, _, err := s.OpenBlob(s.T.Context(), repository, d)
	if err != nil {
		return false
	}
	defer content.Close()
	bytes, err := io.ReadAll(content)
	return err == nil && digest.FromBytes(bytes) == d
}

// damaged is how much is out of service.
func (s *site) damaged() int64 {
	s.T.Helper()
	sum, err := metadb.Read(s.T.Context(), s.DB, (*metadb.Tx).SumDamages)
	if err != nil {
		s.T.Fatal(err)
	}
	return sum.Count
}

func hasDetail(s *wire.Status, code string) bool {
	return slices.ContainsFunc(s.Details, func(d wire.StatusDetail) bool { return d.Code == code })
}

func TestDamageAtASiteIsHealedFromItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large, 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.runScrub()
		ship.awaitTag("app/a", "v1", d)
		await(t, "the ship is in sync", func() bool { return ship.agent.Status().ItemsPending == 0 })

		layer := ship.layerOf("1", large)
		ship.agent.Pause(t.Context())
		ship.spoil("app/a", layer)
		if err := ship.scrub.Order(t.Context()); err != nil {
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

func TestResyncFindsWhatIsLostAtTheSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.awaitTag("app/a", "v1", d)
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

func TestResyncCanReadEverythingAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
		ship.runScrub()
		ship.awaitTag("app/a", "v1", d)
		layer := ship.layerOf("1", large)
		ship.spoil("app/a", layer)
		if _, err := root.fleet.ResyncAndVerify(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		await(t, "the layer is whole", func() bool { return ship.whole("app/a", layer) })
	})
}

// TestWrongContentIsVerifiedAtTheParent is about damage that nobody sees at the parent until a
// child gets it.
func TestWrongContentIsVerifiedAtTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		d := root.push("app/a", "1", "v1", large)
		layer := root.layerOf("1", large)
		root.spoil("app/a", layer)
		root.runScrub()
		c := root.connectedRegistry("ship1", api.RegistryPut{Repositories: []string{"app/*"}})
		ship := root.child("ship1")
		root.start(ship, c)
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
