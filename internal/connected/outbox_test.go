package connected_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/outbox"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// readWrite returns what makes a connected registry in mode ReadWrite, with a sync token of its own
// that may change app/*.
func (s *instance) readWrite(name string) api.RegistryPut {
	s.T.Helper()
	var m api.ScopeMapPut
	for _, action := range []string{"content/read", "content/write", "content/delete", "metadata/read",
		"metadata/write"} {
		m.Actions = append(m.Actions, "repositories/app/*/"+action)
	}
	if _, err := s.control.PutScopeMap(s.T.Context(), by, name, m, control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
	if _, err := s.control.PutToken(s.T.Context(), by, name, api.TokenPut{ScopeMap: name},
		control.Precondition{}); err != nil {
		s.T.Fatal(err)
	}
	return api.RegistryPut{Mode: api.ReadWrite, SyncToken: name}
}

// newWriter returns a root with the image app/a:v1, and the site ship1 in mode ReadWrite, which has
// synced it.
func newWriter(t *testing.T) (root, ship *instance, image digest.Digest) {
	t.Helper()
	root = newRoot(t)
	image = root.push("app/a", "1", "v1", 100)
	ship = root.connect("ship1", root.readWrite("ship1"))
	ship.awaitTag("app/a", "v1", image)
	return root, ship, image
}

// awaitSent waits until the site has no change left that its parent lacks, and matches its parent.
func (s *instance) awaitSent() {
	s.T.Helper()
	await(s.T, s.name+" has sent everything, and is in sync", func() bool {
		st := s.agent.Status()
		return st.ItemsToSend == 0 && st.ItemsPending == 0 && s.outboxRows() == 0
	})
}

func (s *instance) outboxRows() (n int) {
	s.T.Helper()
	err := s.DB.View(s.T.Context(), func(tx *metadb.Tx) error {
		counts, err := tx.CountOutbox()
		for _, c := range counts {
			n += c
		}
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return n
}

func (s *instance) deleteTag(repository, tag string) {
	s.T.Helper()
	if err := s.Storage.DeleteTag(s.T.Context(), repository, tag); err != nil {
		s.T.Fatal(err)
	}
}

func TestPushReachesTheRootThroughItsChild(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		root.link.cut()
		ship.push("app/a", "2", "v1", 1000, 200_000)
		third := ship.push("app/new/b", "3", "v1", 10)
		untagged := ship.push("app/a", "4", "", 10)
		ship.deleteTag("app/a", "v1")
		second := ship.push("app/a", "5", "v1", 1000, 300_000)
		if st := ship.agent.Status(); st.ItemsToSend != 3 || st.BytesToSend < 301_000 {
			t.Errorf("to send: %d items, %d bytes; want 3 and the layers", st.ItemsToSend, st.BytesToSend)
		}
		if !root.serves("app/a", "v1", first) {
			t.Error("the root changed although the link is down")
		}
		root.link.restore()
		root.awaitTag("app/a", "v1", second)
		root.awaitTag("app/new/b", "v1", third)
		ship.awaitSent()
		if !root.serves("app/a", string(untagged), untagged) || !ship.serves("app/a", "v1", second) {
			t.Error("a change is missing")
		}
		ship.deleteTag("app/new/b", "v1")
		root.awaitTag("app/new/b", "v1", "")
		ship.awaitSent()
	})
}

func TestSentContentIsNotFetchedBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		before := root.sent.Load()
		d := ship.push("app/a", "2", "v2", 500_000)
		root.awaitTag("app/a", "v2", d)
		ship.awaitSent()
		if n := root.sent.Load() - before; n > 2000 { // the answers of uploads
			t.Errorf("the site fetched %d bytes of what it had sent", n)
		}
		if st := root.syncStatus("ship1"); st.Status != api.InSync {
			await(t, "the root knows that the site is in sync", func() bool {
				return root.syncStatus("ship1").Status == api.InSync
			})
		}
	})
}

// syncStatus returns what a root knows of a connected registry.
func (s *instance) syncStatus(name string) api.DescendantSync {
	s.T.Helper()
	st, err := s.fleet.DescendantSync(s.T.Context(), name)
	if err != nil {
		s.T.Fatal(err)
	}
	return st
}

func TestUnsentChangesAreNotInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		ship.agent.Pause(t.Context())
		d := ship.push("app/a", "2", "v1", 100)
		moved := root.push("app/a", "3", "v3", 100)
		await(t, "the root knows that changes are not sent", func() bool {
			s := root.syncStatus("ship1")
			return s.Status == api.NotInSync && s.Sync.ItemsToSend == 1
		})
		items, _, err := root.fleet.DescendantItems(t.Context(), "ship1", fleet.PageStart{}, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(items) == 0 || items[0].State != api.ToSend || *items[0].Digest != string(d) ||
			*items[0].ParentDigest != string(first) {
			t.Errorf("items: %+v", items)
		}
		if !ship.serves("app/a", "v1", d) || !ship.serves("app/a", "v3", "") {
			t.Error("a paused site synced")
		}
		ship.agent.Resume(t.Context())
		root.awaitTag("app/a", "v1", d)
		ship.awaitTag("app/a", "v3", moved)
		ship.awaitSent()
	})
}

func TestConflictKeepsBothImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		root.link.cut()
		theirs, ours := ship.push("app/a", "2", "v1", 100), root.push("app/a", "3", "v1", 100)
		root.link.restore()
		kept := outbox.ConflictTag("v1", "ship1", theirs)
		root.awaitTag("app/a", kept, theirs)
		ship.awaitTag("app/a", "v1", ours)
		ship.awaitTag("app/a", kept, theirs)
		ship.awaitSent()
		if !root.serves("app/a", "v1", ours) {
			t.Error("the root's tag was overwritten")
		}
		await(t, "the root shows the conflict", func() bool {
			for _, d := range root.syncStatus("ship1").Sync.Details {
				if d.Code == wire.Conflict && strings.Contains(d.Description, string(theirs)) &&
					strings.Contains(d.Description, string(ours)) {
					return true
				}
			}
			return false
		})
		root.deleteTag("app/a", kept)
		await(t, "the conflict is over", func() bool { return len(ship.agent.Status().Details) == 0 })
		ship.awaitTag("app/a", kept, "")
	})
}

func TestPushOverAnUnfetchedImageIsAConflict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		root.link.delayBy(func() time.Duration { return time.Second })
		root.link.cut() // the next connection is slow
		root.link.restore()
		ours := root.push("app/a", "2", "v1", 300_000)
		await(t, "the site knows of the image", func() bool { return ship.agent.Status().ItemsPending > 0 })
		if !ship.serves("app/a", "v1", first) {
			t.Fatal("the site has it already")
		}
		theirs := ship.push("app/a", "3", "v1", 100)
		root.link.delayBy(nil)
		ship.awaitTag("app/a", "v1", ours)
		root.awaitTag("app/a", outbox.ConflictTag("v1", "ship1", theirs), theirs)
		if !root.serves("app/a", "v1", ours) {
			t.Error("the root's tag was overwritten")
		}
	})
}

func TestDeletionSparesATagTheParentMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		root.link.cut()
		ship.deleteTag("app/a", "v1")
		moved := root.push("app/a", "2", "v1", 100)
		root.link.restore()
		ship.awaitTag("app/a", "v1", moved)
		ship.awaitSent()
		if !root.serves("app/a", "v1", moved) {
			t.Error("the deletion at the site deleted what the root had moved")
		}
		if d := ship.agent.Status().Details; len(d) != 1 || d[0].Code != wire.Conflict {
			t.Errorf("details: %+v", d)
		}
	})
}

func TestLockedTagRefusesOnlyItsChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		root.link.cut() // else the site has the lock, too, and refuses the push
		lock := storage.LockChange{Set: storage.NoWrite}
		if err := root.Storage.ChangeLocks(t.Context(), "app/a", "v1", lock); err != nil {
			t.Fatal(err)
		}
		d := ship.push("app/a", "2", "v1", 100)
		other := ship.push("app/a", "3", "v2", 100)
		root.link.restore()
		root.awaitTag("app/a", "v2", other)
		await(t, "the site says that the change is refused", func() bool {
			details := ship.agent.Status().Details
			return len(details) == 1 && details[0].Code == wire.ChangesRefused
		})
		if !ship.serves("app/a", "v1", d) || !root.serves("app/a", "v1", first) {
			t.Error("the refused change is lost, or was made")
		}
		unlock := storage.LockChange{Clear: storage.NoWrite}
		if err := root.Storage.ChangeLocks(t.Context(), "app/a", "v1", unlock); err != nil {
			t.Fatal(err)
		}
		root.awaitTag("app/a", "v1", d)
		ship.awaitSent()
	})
}

func TestOldParentIsNamedAsTheProblem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		ship.polls.setEarlier("receivesChanges")
		root.push("app/a", "2", "v2", 100) // so that the parent answers
		ship.awaitDetails(root, wire.ParentTooOld, 1)
		for _, d := range ship.agent.Status().Details {
			if !strings.Contains(d.Description, "update the parent") {
				t.Errorf("the detail names no remedy: %s", d.Description)
			}
		}
		d := ship.push("app/a", "3", "v1", 100)
		await(t, "the root says that a person must act", func() bool {
			list, _, err := root.fleet.List(t.Context(), fleet.ListQuery{By: by, Limit: 10})
			if err != nil {
				t.Fatal(err)
			}
			sum := list[0].Summary
			return sum.State == api.NeedsYou && *sum.Reason == wire.ParentTooOld && *sum.Action != ""
		})
		if !root.serves("app/a", "v1", first) || !ship.serves("app/a", "v1", d) {
			t.Error("a change was sent to a parent that does not receive changes, or is lost")
		}
		ship.restart()
		ship.awaitDetails(root, wire.ParentTooOld, 1)
		ship.polls.setEarlier()
		root.push("app/a", "4", "v2", 100)
		root.awaitTag("app/a", "v1", d)
		ship.awaitDetails(root, wire.ParentTooOld, 0)
		ship.awaitSent()
	})
}

func TestChangesGoUpThroughEveryLevel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		cabin := ship.connect("cabin", root.readWrite("cabin"))
		cabin.awaitTag("app/a", "v1", first)
		root.link.cut()
		d := cabin.push("app/a", "2", "v1", 100_000)
		ship.awaitTag("app/a", "v1", d)
		cabin.awaitSent()
		root.link.restore()
		root.awaitTag("app/a", "v1", d)
		cabin.deleteTag("app/a", "v1")
		root.awaitTag("app/a", "v1", "")
		ship.awaitSent()
		cabin.awaitSent()
	})
}

func TestCutUploadResumesAtTheSameByte(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		const size = 8 << 20
		root.link.cut()
		root.link.breakAfter(func() int { return 700_000 })
		d := ship.push("app/a", "2", "v1", size, 100)
		root.link.restore()
		ship.agent.SyncNow(t.Context())
		await(t, "half of the layer is sent", func() bool { return root.received.Load() > size/2 })
		ship.restart()
		root.awaitTag("app/a", "v1", d)
		ship.awaitSent()
		if n := root.received.Load(); n < size || n > size*105/100 {
			t.Errorf("%d bytes were sent for a layer of %d, want at most 5 %% more", n, size)
		}
	})
}

func TestSendUsesALinkThatIsCutEverySecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		const size, up, down, most = 16 << 20, time.Second, 300 * time.Millisecond, 12 // an endless link needs 5 s
		root.link.cut()
		root.link.breakAfter(func() int { return math.MaxInt32 })
		root.link.delayBy(func() time.Duration { return 10 * time.Millisecond }) // each 32 KiB
		d := ship.push("app/a", "2", "v1", size)
		requests := root.requests.Load()
		root.link.restore()
		ship.agent.SyncNow(t.Context())
		cuts := 0
		for ; !root.serves("app/a", "v1", d) && cuts <= most; cuts++ {
			time.Sleep(up)
			root.link.cut()
			time.Sleep(down)
			root.link.restore()
		}
		root.awaitTag("app/a", "v1", d)
		if cuts > most {
			t.Errorf("the link was cut more than %d times until the layer was sent", most)
		}
		if n := root.requests.Load() - requests; n > int64(10*cuts) { // of the polls, too
			t.Errorf("%d cuts took %d requests", cuts, n)
		}
		if n := root.received.Load(); n < size || n > size*101/100 { // this link has nothing in flight
			t.Errorf("%d bytes were sent for a layer of %d, want at most 1 %% more", n, size)
		}
	})
}

func TestReplacedImageLeavesNoUpload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		root.link.cut()
		root.link.breakAfter(func() int { return math.MaxInt32 })
		root.link.delayBy(func() time.Duration { return 10 * time.Millisecond }) // each 32 KiB
		ship.push("app/a", "2", "v1", 8<<20)
		root.link.restore()
		ship.agent.SyncNow(t.Context())
		await(t, "a part is sent", func() bool { return root.received.Load() > 200_000 })
		root.link.cut()
		d := ship.push("app/a", "3", "v1", 100)
		root.link.breakAfter(nil)
		root.link.restore()
		root.awaitTag("app/a", "v1", d)
		ship.awaitSent()
		await(t, "no upload is left", func() bool {
			left, err := metadb.Read(t.Context(), ship.DB, (*metadb.Tx).HasUnusedUploads)
			if err != nil {
				t.Fatal(err)
			}
			return !left
		})
		if n := root.received.Load(); n > 7<<20 {
			t.Errorf("%d bytes were sent of an image that was replaced", n)
		}
	})
}

func TestSilentCutDoesNotDelayTheNextSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newWriter(t)
		const size, first = 2 << 20, 900_000
		root.link.cut()
		d := ship.push("app/a", "2", "v1", size)
		root.link.fallSilent(first)
		root.link.restore()
		ship.agent.SyncNow(t.Context())
		await(t, "a connection has fallen silent", func() bool { return root.received.Load() > first*9/10 })
		root.link.breakAfter(nil)
		ship.restart() // the root does not know that the old process is gone
		start := time.Now()
		root.awaitTag("app/a", "v1", d)
		ship.awaitSent()
		if waited := time.Since(start); waited > 10*time.Second {
			t.Errorf("the next send ended after %v", waited)
		}
		if n := root.received.Load(); n < size || n > size*105/100 {
			t.Errorf("%d bytes were sent for a layer of %d, want at most 5 %% more", n, size)
		}
	})
}

func TestReadOnlyParentHasNoReadWriteChild(t *testing.T) {
	root := newRoot(t)
	root.connectedRegistry("ship1", api.RegistryPut{})
	put := root.readWrite("cabin")
	put.Parent = "ship1"
	if _, err := root.fleet.Create(t.Context(), by, "cabin", put, control.Precondition{}); err == nil {
		t.Error("a ReadWrite registry was created below a ReadOnly one")
	}
}

func TestUnsentContentSurvivesEveryRemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		root.link.cut()
		ship.push("app/a", "2", "v1", 100)
		untagged, d := ship.push("app/a", "3", "", 100), ship.push("app/a", "4", "v1", 100)
		synced := ship.Storage.Unlocked()
		if err := synced.DeleteTag(t.Context(), "app/a", "v1"); !errors.Is(err, storage.ErrUnsent) {
			t.Errorf("a sync removes an unsent tag: %v", err)
		}
		if err := synced.DeleteManifest(t.Context(), "app/a", untagged); !errors.Is(err, storage.ErrUnsent) {
			t.Errorf("a sync removes an unsent manifest: %v", err)
		}
		image := storage.Image{Repository: "app/a", Root: first, Tags: []string{"v1"}}
		err := ship.Storage.PutImages(t.Context(), []storage.Image{image}, func(*metadb.Tx) error { return nil })
		if !errors.Is(err, storage.ErrUnsent) {
			t.Errorf("a sync moves an unsent tag: %v", err)
		}
		// The root loses the repository while the link is down.
		if err := root.Storage.DeleteRepository(t.Context(), "app/a"); err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		root.awaitTag("app/a", outbox.ConflictTag("v1", "ship1", d), d)
		await(t, "the manifest without a tag is at the root", func() bool {
			return root.serves("app/a", string(untagged), untagged)
		})
		ship.awaitSent()
	})
}

func TestPushOutsideOfThePermissionsIsDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ship, _ := newWriter(t)
		err := ship.control.Writable("other/a", "content/write")
		if !errors.Is(err, oci.ErrDenied) || !strings.Contains(err.Error(), "permissions update") {
			t.Errorf("push to another repository: %v", err)
		}
		if err := ship.control.Writable("app/z", "content/read", "content/write"); err != nil {
			t.Errorf("push to a permitted repository: %v", err)
		}
	})
}
