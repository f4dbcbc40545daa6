package connected_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

func TestFirstPollHasNoCursorAndIsNotHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		root.push("app/a", "1", "v1", 10)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		start := time.Now()
		root.start(ship, c)
		await(t, "it polled", func() bool { return len(ship.polls.all()) > 0 })
		p := ship.polls.all()[0]
		if q := p.question; q.Feed != "" || q.Subscription != "" || q.Cursor != 0 || q.Pass != 0 || q.Page != nil ||
			q.WaitSeconds != 0 || q.Report == nil {
			t.Errorf("the first question is %+v", q)
		}
		if !p.answer.Restart || len(p.answer.Listings) != 1 {
			t.Errorf("the first answer is %+v", p.answer)
		}
		if after := p.asked.Sub(start); after > time.Second {
			t.Errorf("it polled after %v", after)
		}
	})
}

func TestTriggerSaysWhyEveryRepositoryIsListed(t *testing.T) {
	scopeMap := func(root *instance, p api.ScopeMapPatch) error {
		_, err := root.control.UpdateScopeMap(root.T.Context(), by, "ship1", p, control.Precondition{})
		return err
	}
	update := func(s api.Settings) func(*instance) error {
		return func(root *instance) error { root.update("ship1", s); return nil }
	}
	one, other, no := 1, "other", false
	for _, test := range []struct {
		name    string
		change  func(root *instance) error
		trigger string
		passes  int // after the first
	}{
		{"tag filters", update(api.Settings{TagFilters: []string{"v*"}}), "SyncTokenUpdate", 1},
		{"keep-last", update(api.Settings{KeepLast: &one}), "SyncTokenUpdate", 1},
		{"platforms", update(api.Settings{Platforms: []string{"linux/arm64"}}), "SyncTokenUpdate", 1},
		{"permissions", func(root *instance) error {
			return scopeMap(root,
				api.ScopeMapPatch{AddActions: []string{"repositories/b/content/read", "repositories/b/metadata/read"}})
		}, "SyncTokenUpdate", 1},
		{"a resync", func(root *instance) error {
			_, err := root.fleet.Resync(root.T.Context(), by, "ship1")
			return err
		}, "ManualResync", 1},
		{"a setting that selects nothing", update(api.Settings{GCEnabled: &no}), "InitialSync", 0},
		{"a description", func(root *instance) error {
			return scopeMap(root, api.ScopeMapPatch{Description: &other})
		}, "InitialSync", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				root, ship, d := newPair(t, 10)
				time.Sleep(5 * time.Minute)
				if s := ship.agent.Status(); s.SyncTrigger != "InitialSync" || s.SyncState != "Succeeded" {
					t.Fatalf("at first: %s, %s", s.SyncTrigger, s.SyncState)
				}
				if err := test.change(root); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				if n := ship.polls.restarts() - 1; n != test.passes {
					t.Errorf("every repository is listed %d times within two seconds, want %d", n, test.passes)
				}
				time.Sleep(10 * time.Minute)
				if n := ship.polls.restarts() - 1; n != test.passes {
					t.Errorf("every repository is listed %d times, want %d", n, test.passes)
				}
				if s := ship.agent.Status(); s.SyncTrigger != test.trigger || s.SyncState != "Succeeded" {
					t.Errorf("the trigger is %s, and the sync %s; want %s", s.SyncTrigger, s.SyncState, test.trigger)
				}
				if !ship.serves("app/a", "v1", d) {
					t.Error("the image is gone")
				}
			})
		})
	}
}

// repositories pushes an image to each of n repositories. It returns a function that reports
// whether a site serves all of them.
func (s *instance) repositories(n int) (served func(by *instance) bool) {
	s.T.Helper()
	for i := range n {
		s.push(fmt.Sprintf("app/%d", i), fmt.Sprint(i), "v1", large)
	}
	return func(by *instance) bool {
		for i := range n {
			if by.serves(fmt.Sprintf("app/%d", i), "v1", "") {
				return false
			}
		}
		return true
	}
}

func TestFurtherListingsArePolledAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		served := root.repositories(5)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		ship := root.child("ship1")
		ship.polls.cut(1)
		root.rate.Store(20_000) // the sync of the first listing takes longer
		root.start(ship, c)
		await(t, "all is served", func() bool { return served(ship) })
		polls := ship.polls.all()
		for i, p := range polls[:5] {
			if p.question.Pass > 0 != (i > 0) || p.question.WaitSeconds != 0 || p.answer.Restart != (i == 0) ||
				len(p.answer.Listings) != 1 {
				t.Errorf("poll %d: %+v: %+v", i, p.question, p.answer)
			}
			if pause := p.asked.Sub(polls[0].asked); pause > 0 {
				t.Errorf("poll %d comes after %v", i, pause)
			}
		}
	})
}

func TestParentWithoutProgressIsNotPolledInALoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		served := root.repositories(1)
		ship := root.connect("ship1", api.RegistryPut{})
		await(t, "all is served", func() bool { return served(ship) })
		ship.polls.stick()
		time.Sleep(time.Hour)
		if n := len(ship.polls.all()); n < 10 || n > 150 {
			t.Errorf("%d polls in an hour", n)
		}
	})
}

func TestInterruptedPassResumesFromItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		served := root.repositories(6)
		ship := root.connect("ship1", api.RegistryPut{})
		await(t, "all is served", func() bool { return served(ship) })
		time.Sleep(time.Minute)
		before := len(ship.polls.all())
		ship.polls.cut(1)
		ship.polls.breakAfter(3) // the first answer of the pass, and two more
		if _, err := root.fleet.Resync(t.Context(), by, "ship1"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if !served(ship) {
			t.Error("a repository is gone that was not listed yet")
		}
		ship.stop()
		ship.engine = ship.newEngine()
		ship.polls.restore()
		ship.restart()
		time.Sleep(5 * time.Minute)
		listed, restarts, ended := map[string]int{}, 0, false
		for _, p := range ship.polls.all()[before:] {
			if p.answer.Restart {
				restarts++
			}
			for _, l := range p.answer.Listings {
				listed[l.Repository]++
			}
			if r := p.question.Report; p.question.Pass > 0 && r != nil && r.Self.Watermarks != nil {
				t.Error("a site that does not know all of its listings reports watermarks")
			}
			ended = ended || restarts > 0 && !p.answer.More
		}
		if restarts != 1 || !ended || len(listed) != 6 {
			t.Errorf("%d passes began, one ended: %t, %d repositories were listed; want 1, and 6", restarts, ended,
				len(listed))
		}
		for repository, n := range listed {
			if n != 1 {
				t.Errorf("%s was listed %d times", repository, n)
			}
		}
		if !served(ship) {
			t.Error("not all is served")
		}
	})
}

func TestParentHoldsAPollUntilSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root, ship, _ := newPair(t, 10)
		time.Sleep(5 * time.Minute)
		before := len(ship.polls.all())
		time.Sleep(10 * time.Minute)
		idle := ship.polls.all()[before:]
		if len(idle) > 11 {
			t.Errorf("%d polls in ten idle minutes, want one a minute", len(idle))
		}
		for _, p := range idle {
			if p.question.WaitSeconds != 60 || p.question.Report != nil || len(p.answer.Listings) > 0 {
				t.Errorf("%+v: %+v", p.question, p.answer)
			}
		}
		ended := len(ship.polls.all())
		await(t, "a poll ends", func() bool { return len(ship.polls.all()) > ended })
		time.Sleep(10 * time.Second) // the next one is held
		e := root.push("app/a", "2", "v1", 10)
		time.Sleep(10 * time.Millisecond)
		if !ship.serves("app/a", "v1", e) {
			t.Error("a change does not end the poll that is held")
		}
		time.Sleep(5 * time.Minute)
		listings := 0
		for _, p := range ship.polls.all()[before:] {
			listings += len(p.answer.Listings)
		}
		if listings != 1 {
			t.Errorf("%d listings for one change", listings)
		}
	})
}

// head returns the number of the last change at s.
func (s *instance) head() (head int64) {
	s.T.Helper()
	err := s.Storage.View(s.T.Context(), func(v *storage.View) (err error) {
		head, _, err = v.FeedHead()
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return head
}

// known returns the watermark of s's feed that a site below it last reported.
func (s *instance) known(below *instance) int64 {
	var last *wire.Report
	for _, p := range below.polls.all() {
		if p.question.Report != nil {
			last = p.question.Report
		}
	}
	return last.Self.Watermarks[s.control.InstanceID()]
}

func TestWatermarksAdvanceOnceNothingIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		c := root.connectedRegistry("ship1", api.RegistryPut{})
		d := root.push("app/a", "1", "v1", large)
		ship := root.child("ship1")
		root.rate.Store(1000)
		root.start(ship, c)
		whole := func() int64 {
			watermarks, _ := ship.agent.Watermarks()
			return watermarks[root.control.InstanceID()]
		}
		time.Sleep(time.Minute)
		first := root.head()
		if ship.serves("app/a", "v1", d) || root.known(ship) != first || whole() != 0 {
			t.Errorf("while the first sync runs it reports %d and has all up to %d; want %d and 0", root.known(ship),
				whole(), first)
		}
		root.rate.Store(0)
		ship.awaitTag("app/a", "v1", d)
		time.Sleep(2 * time.Minute)
		if whole() != first {
			t.Errorf("it has all up to %d, want %d", whole(), first)
		}

		root.link.cut()
		root.push("app/b", "2", "v1", large)
		if err := root.loseBlob("app/b", root.PushBlob("app/b", []byte("config 2")).Digest); err != nil {
			t.Fatal(err)
		}
		root.push("other/c", "3", "v1", 10) // which it does not get
		root.link.restore()
		await(t, "an item failed", func() bool { return ship.agent.Status().ItemsFailed == 1 })
		time.Sleep(10 * time.Second)
		if s := ship.agent.Status(); s.ItemsFailed != 1 || whole() != first {
			t.Errorf("with %d items that failed once it has all up to %d; want %d", s.ItemsFailed, whole(), first)
		}
		time.Sleep(6 * time.Minute) // another try, and a poll
		if _, lacking := ship.agent.Watermarks(); whole() != root.head() || len(lacking) != 1 ||
			lacking[0].Repository != "app/b" {
			t.Errorf("it has all up to %d, want %d, apart from %+v", whole(), root.head(), lacking)
		}
		if root.known(ship) != root.head() {
			t.Errorf("it reports %d, want %d", root.known(ship), root.head())
		}
		if err := root.Storage.DeleteRepository(t.Context(), "app/b"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		if _, lacking := ship.agent.Watermarks(); whole() != root.head() || len(lacking) > 0 {
			t.Errorf("with nothing that is missing it has all up to %d, want %d, apart from %+v", whole(), root.head(),
				lacking)
		}
	})
}

// stateOf returns the state of a tag at a descendant, as s knows it; "" is none.
func (s *instance) stateOf(name, repository, tag string) string {
	s.T.Helper()
	items, _, err := s.fleet.DescendantItems(s.T.Context(), name, fleet.PageStart{}, 100)
	if err != nil {
		s.T.Fatal(err)
	}
	for _, i := range items {
		if i.Repository == repository && i.Tag != nil && *i.Tag == tag {
			return i.State
		}
	}
	return ""
}

// TestRootKnowsADescendantWhoseParentLacksAnImage has an image that the site in the middle can
// never get. At the site below, the image is not in sync, even while that site is offline, and
// everything else is in sync.
func TestRootKnowsADescendantWhoseParentLacksAnImage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		up := root.connectedRegistry("plant", api.RegistryPut{Repositories: []string{"app/*", "other"}})
		down := root.connectedRegistry("floor", api.RegistryPut{Parent: "plant"})
		plant, floor := root.child("plant"), root.child("floor")
		root.push("app/a", "1", "v1", 10)
		root.start(plant, up)
		stop := plant.start(floor, down)
		floor.awaitTag("app/a", "v1", root.push("app/a", "1", "v1", 10))

		root.link.cut()
		lost := root.PushBlob("app/a", []byte("config 2")).Digest
		second := root.push("app/a", "2", "v2", large)
		if err := root.loseBlob("app/a", lost); err != nil {
			t.Fatal(err)
		}
		root.link.restore()
		time.Sleep(5 * time.Minute)
		third := root.push("app/b", "3", "v3", large)
		floor.awaitTag("app/b", "v3", third)
		time.Sleep(5 * time.Minute)
		states := func(when string, v2 string) {
			t.Helper()
			for _, test := range [][3]string{{"app/a", "v1", api.InSync}, {"app/a", "v2", v2},
				{"app/b", "v3", api.InSync}} {
				if state := root.stateOf("floor", test[0], test[1]); state != test[2] {
					t.Errorf("%s: %s:%s is %s, want %s", when, test[0], test[1], state, test[2])
				}
			}
		}
		states("lost at the root", api.Failed)

		stop()
		root.PushBlob("app/a", []byte("config 2"))
		plant.agent.SyncNow(t.Context())
		plant.awaitTag("app/a", "v2", second)
		time.Sleep(5 * time.Minute)
		states("floor was not in touch since the site has it", api.Failed)
		plant.start(floor, down)
		floor.awaitTag("app/a", "v2", second)
		time.Sleep(5 * time.Minute)
		states("floor has it", api.InSync)
	})
}

func TestRootKnowsWhenADescendantIsInSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		root := newRoot(t)
		up := root.connectedRegistry("plant", api.RegistryPut{})
		down := root.connectedRegistry("floor", api.RegistryPut{Parent: "plant", Repositories: []string{"app/a"}})
		first := root.push("app/a", "1", "v1", large)
		plant, floor := root.child("plant"), root.child("floor")
		root.start(plant, up)
		plant.start(floor, down)
		// follow waits until the root says that the tag is in sync at floor, and
		// never does so before it is.
		follow := func(tag string, d digest.Digest) {
			t.Helper()
			start := time.Now()
			await(t, "the root knows that floor has "+tag, func() bool {
				state, served := root.stateOf("floor", "app/a", tag), floor.serves("app/a", tag, d)
				if state == api.InSync && !served {
					t.Fatalf("the root says that %s is in sync at floor, which does not serve it", tag)
				}
				return state == api.InSync
			})
			t.Logf("%s took %v", tag, time.Since(start))
		}
		follow("v1", first)
		if s := root.stateOf("plant", "app/a", "v1"); s != api.InSync {
			t.Errorf("v1 is %s at plant", s)
		}

		root.rate.Store(5000) // plant takes a minute
		second := root.push("app/a", "2", "v2", large)
		follow("v2", second)
		root.rate.Store(0)

		plant.link.cut()
		third := root.push("app/a", "3", "v3", large)
		plant.awaitTag("app/a", "v3", third)
		time.Sleep(time.Hour)
		for tag, want := range map[string]string{"v2": api.Unknown, "v3": api.Pending} { // floor is silent
			if s := root.stateOf("floor", "app/a", tag); s != want {
				t.Errorf("with the link between the sites down, %s is %s at floor, want %s", tag, s, want)
			}
		}
		plant.link.restore()
		follow("v3", third)

		// Floor cannot have a tag before plant gets it.
		root.update("plant", api.Settings{TagFilters: []string{"v3"}})
		await(t, "plant has only v3", func() bool { return plant.serves("app/a", "v2", "") })
		root.update("plant", api.Settings{TagFilters: []string{"v2", "v3"}})
		if s := root.stateOf("floor", "app/a", "v2"); s != api.Unknown {
			t.Errorf("v2 is %s at floor when nobody knows of the filter", s)
		}
		follow("v2", second)
	})
}
