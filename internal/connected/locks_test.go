package connected_test

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// isDenied reports whether a lock forbids the pull of a tag or a digest.
func (s *instance) isDenied(repository, reference string) bool {
	_, err := s.Storage.Manifest(s.T.Context(), repository, reference)
	return errors.Is(err, oci.ErrDenied)
}

// lock sets and clears locks.
func (s *instance) lock(repository, reference string, c storage.LockChange) {
	s.T.Helper()
	if err := s.ChangeLocks(s.T.Context(), repository, reference, c); err != nil {
		s.T.Fatal(err)
	}
}

// TestLocksReachEveryDescendant locks content that two levels of sites have. Only unlocked content may be
// pulled there, and nothing is fetched again.
func TestLocksReachEveryDescendant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		v1, v2 := root.push("app/a", "1", "v1", large), root.push("app/a", "2", "v2", large)
		other := root.push("app/b", "3", "v1", 10)
		ship := root.connect("ship1", api.RegistryPut{})
		boat := ship.connect("boat1", api.RegistryPut{})
		for _, child := range []*instance{ship, boat} {
			child.awaitTag("app/a", "v1", v1)
			child.awaitTag("app/a", "v2", v2)
			child.awaitTag("app/b", "v1", other)
		}
		read := storage.LockChange{Set: storage.NoRead}
		unread := storage.LockChange{Clear: storage.NoRead}
		for name, l := range map[string]struct {
			repository, reference string
			denied, allowed       [][2]string
		}{
			"a tag": {"app/a", "v1", [][2]string{{"app/a", "v1"}},
				[][2]string{{"app/a", string(v1)}, {"app/a", "v2"}}},
			"a manifest": {"app/a", string(v1), [][2]string{{"app/a", "v1"}, {"app/a", string(v1)}},
				[][2]string{{"app/a", "v2"}, {"app/b", "v1"}}},
			"a repository": {"app/a", "", [][2]string{{"app/a", "v1"}, {"app/a", "v2"}, {"app/a", string(v2)}},
				[][2]string{{"app/b", "v1"}}},
		} {
			sent := root.sent.Load() + ship.sent.Load()
			root.lock(l.repository, l.reference, read)
			for _, child := range []*instance{ship, boat} {
				for _, d := range l.denied {
					await(t, child.name+" knows the lock of "+name, func() bool { return child.isDenied(d[0], d[1]) })
				}
				for _, a := range l.allowed {
					if child.isDenied(a[0], a[1]) {
						t.Errorf("%s: %s denies %s %s", name, child.name, a[0], a[1])
					}
				}
			}
			root.lock(l.repository, l.reference, unread)
			for _, child := range []*instance{ship, boat} {
				for _, d := range l.denied {
					await(t, child.name+" heard of the end of the lock of "+name,
						func() bool { return !child.isDenied(d[0], d[1]) })
				}
			}
			if n := root.sent.Load() + ship.sent.Load() - sent; n > 0 {
				t.Errorf("%s: %d bytes of blobs were sent for a change of locks", name, n)
			}
		}
		for _, name := range []string{"ship1", "boat1"} {
			await(t, name+" is in sync", func() bool { return root.stateOf(name, "app/a", "v1") == api.InSync })
		}
	})
}

// TestLockedContentIsSyncedAndNotServed pushes to a repository that is locked against reading, so that
// unlocking it needs no transfer.
func TestLockedContentIsSyncedAndNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		old := root.push("app/a", "1", "v1", large)
		root.lock("app/a", "", storage.LockChange{Set: storage.NoRead})
		ship := root.connect("ship1", api.RegistryPut{})
		await(t, "the image is there", func() bool {
			has, err := ship.HasManifest(t.Context(), "app/a", old)
			return err == nil && has
		})
		if !ship.isDenied("app/a", "v1") || !ship.isDenied("app/a", string(old)) {
			t.Error("the site serves locked content")
		}
		root.lock("app/a", "", storage.LockChange{Clear: storage.NoRead})
		ship.awaitUnlocked("app/a", "v1", old)

		// A tag that moves while it is locked: nobody sees the new image at any moment.
		root.lock("app/a", "v1", storage.LockChange{Set: storage.NoRead})
		moved := root.push("app/a", "2", "v1", large)
		await(t, "the new image is there", func() bool {
			has, err := ship.HasManifest(t.Context(), "app/a", moved)
			return err == nil && has
		})
		if !ship.isDenied("app/a", "v1") {
			t.Error("the site serves the locked tag")
		}
		root.lock("app/a", "v1", storage.LockChange{Clear: storage.NoRead})
		ship.awaitUnlocked("app/a", "v1", moved)
	})
}

// TestParentRemovesItsLockedContent deletes locked content at the root, after unlocking it there:
// the site hears of both at once.
func TestParentRemovesItsLockedContent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		v1, v2 := root.push("app/a", "1", "v1", 10), root.push("app/a", "2", "v2", 10)
		locked := storage.LockChange{Set: storage.NoDelete | storage.NoWrite | storage.NoRead}
		root.lock("app/a", "v1", locked)
		root.lock("app/a", string(v1), locked)
		root.lock("app/a", "v2", storage.LockChange{Set: storage.NoWrite})
		root.lock("app/a", "", storage.LockChange{Set: storage.NoDelete | storage.NoWrite})
		ship := root.connect("ship1", api.RegistryPut{})
		ship.awaitTag("app/a", "v2", v2)
		await(t, "the locked image is there", func() bool { return ship.isDenied("app/a", "v1") })
		err := ship.Storage.DeleteTag(t.Context(), "app/a", "v2")
		if !errors.Is(err, oci.ErrDenied) {
			t.Errorf("DeleteTag at the site = %v, want %v", err, oci.ErrDenied)
		}

		root.link.cut()
		for _, reference := range []string{"", "v1", "v2", string(v1)} {
			root.lock("app/a", reference, storage.LockChange{Clear: 15})
		}
		moved := root.push("app/a", "3", "v2", 10)
		root.lock("app/a", "v2", storage.LockChange{Set: storage.NoWrite})
		if err := root.Storage.DeleteManifest(t.Context(), "app/a", v1); err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		ship.awaitTag("app/a", "v2", moved)
		await(t, "the tag is gone", func() bool { return ship.hasNo("app/a", "v1") })
		await(t, "the manifest is gone", func() bool { return ship.hasNo("app/a", string(v1)) })
		if err := root.Unlocked().DeleteRepository(t.Context(), "app/a"); err != nil {
			t.Fatal(err)
		}
		await(t, "the repository is gone", func() bool { return ship.hasNo("app/a", "v2") })
	})
}

// awaitUnlocked waits until a tag may be pulled, and names d.
func (s *instance) awaitUnlocked(repository, tag string, d digest.Digest) {
	s.T.Helper()
	await(s.T, s.name+" serves "+tag,
		func() bool { return !s.isDenied(repository, tag) && s.serves(repository, tag, d) })
}

// hasNo reports whether the instance has no such tag or manifest.
func (s *instance) hasNo(repository, reference string) bool {
	return !s.isDenied(repository, reference) && s.serves(repository, reference, "")
}
