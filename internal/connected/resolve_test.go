package connected_test

import (
	"testing"
	"testing/synctest"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/outbox"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// awaitDetails waits until the site, and what its root knows of it, has exactly n status details with
// a code.
func (s *instance) awaitDetails(root *instance, code string, n int) {
	s.T.Helper()
	await(s.T, s.name+" and the root show the details "+code, func() bool {
		here, there := 0, 0
		for _, d := range s.agent.Status().Details {
			if d.Code == code {
				here++
			}
		}
		if known := root.syncStatus(s.name).Sync; known != nil {
			for _, d := range known.Details {
				if d.Code == code {
					there++
				}
			}
		}
		return here == n && there == n
	})
}

// resolve ends the conflicts of an item, or discards its change.
func (s *instance) resolve(item string, discard bool) api.SyncResolved {
	s.T.Helper()
	q := api.SyncResolvePost{Repository: "app/a", Item: item, Discard: discard}
	done, err := s.agent.Resolve(s.T.Context(), q, func(*metadb.Tx) error { return nil })
	if err != nil {
		s.T.Fatal(err)
	}
	return done
}

func TestResolveEndsAConflictAndKeepsBothImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		root.push("app/a", "9", "v2", 100)
		ship.awaitTag("app/a", "v2", root.tags("app/a")["v2"])
		root.link.cut()
		theirs, ours := ship.push("app/a", "2", "v1", 100), root.push("app/a", "3", "v1", 100)
		ship.deleteTag("app/a", "v2")
		moved := root.push("app/a", "4", "v2", 100)
		root.link.restore()
		ship.awaitDetails(root, wire.Conflict, 2)
		ship.awaitSent()
		for _, tag := range []string{"v1", "v2"} { // discard has nothing to discard: the parent has answered
			if done := ship.resolve(tag, tag == "v2"); done.Conflicts != 1 || done.Discarded != 0 {
				t.Errorf("resolve %s = %+v, want 1 conflict", tag, done)
			}
		}
		if done := ship.resolve("v1", false); done.Conflicts+done.Discarded != 0 {
			t.Errorf("the second resolve = %+v, want nothing", done)
		}
		ship.awaitDetails(root, wire.Conflict, 0)
		ship.restart()
		root.push("app/a", "5", "v3", 100)
		ship.awaitTag("app/a", "v3", root.tags("app/a")["v3"])
		ship.awaitSent()
		kept := outbox.ConflictTag("v1", "ship1", theirs)
		for tag, d := range map[string]digest.Digest{"v1": ours, "v2": moved, kept: theirs, string(first): ""} {
			if !root.serves("app/a", tag, d) && tag != string(first) || !ship.serves("app/a", tag, d) {
				t.Errorf("%s is not %q at both", tag, d)
			}
		}
		ship.awaitDetails(root, wire.Conflict, 0)
		await(t, "the root says that the site is in sync", func() bool {
			return root.syncStatus("ship1").Status == api.InSync
		})
	})
}

func TestDiscardFollowsTheParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, first := newWriter(t)
		second := root.push("app/a", "2", "v2", 100)
		ship.awaitTag("app/a", "v2", second)
		root.link.cut() // else the site has the lock, too, and refuses the changes
		lock := storage.LockChange{Set: storage.NoWrite | storage.NoDelete}
		if err := root.Storage.ChangeLocks(t.Context(), "app/a", "", lock); err != nil {
			t.Fatal(err)
		}
		ship.push("app/a", "3", "v1", 100)
		added := ship.push("app/a", "4", "added", 100)
		untagged := ship.push("app/a", "5", "", 100)
		ship.deleteTag("app/a", "v2")
		kept := ship.push("app/a", "6", "kept", 100)
		root.link.restore()
		ship.awaitDetails(root, wire.ChangesRefused, 1)
		await(t, "all changes are refused", func() bool { return ship.unsent(metadb.Failed) == 5 })
		for _, item := range []string{"v1", "added", string(untagged), "v2"} {
			if done := ship.resolve(item, false); done.Conflicts+done.Discarded != 0 {
				t.Errorf("resolve without discard of %s = %+v", item, done)
			}
			if done := ship.resolve(item, true); done.Discarded != 1 || done.Conflicts != 0 {
				t.Errorf("discard of %s = %+v, want 1 discarded", item, done)
			}
		}
		ship.awaitTag("app/a", "v1", first)
		ship.awaitTag("app/a", "v2", second)
		ship.awaitDetails(root, wire.ChangesRefused, 1) // on the change that nobody discarded
		if !ship.serves("app/a", "kept", kept) {
			t.Error("a change is lost that was not discarded")
		}
		unlock := storage.LockChange{Clear: storage.NoWrite | storage.NoDelete}
		if err := root.Storage.ChangeLocks(t.Context(), "app/a", "", unlock); err != nil {
			t.Fatal(err)
		}
		root.awaitTag("app/a", "kept", kept)
		ship.awaitTag("app/a", "added", "")
		ship.awaitSent()
		ship.awaitDetails(root, wire.ChangesRefused, 0)
		await(t, "the site drops what was discarded", func() bool {
			return ship.serves("app/a", string(added), "") && ship.serves("app/a", string(untagged), "")
		})
		if !root.serves("app/a", "added", "") || !root.serves("app/a", "v1", first) ||
			!root.serves("app/a", "v2", second) {
			t.Error("a discarded change reached the root")
		}
		await(t, "the root says that the site is in sync", func() bool {
			return root.syncStatus("ship1").Status == api.InSync
		})
	})
}

// unsent returns how many changes have a state.
func (s *instance) unsent(state string) int {
	s.T.Helper()
	counts, err := metadb.Read(s.T.Context(), s.DB, (*metadb.Tx).CountOutbox)
	if err != nil {
		s.T.Fatal(err)
	}
	return counts[state]
}
