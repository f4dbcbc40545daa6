package fleet_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/storage/storagetest"
)

const mib = 1 << 20

// layer returns a layer whose content depends on n, with a size in MiB.
func layer(n byte, size int) []byte { return bytes.Repeat([]byte{n}, size*mib) }

// wantToGo checks what a connected registry has not heard of.
func (i *instance) wantToGo(t *testing.T, when, name string, items int, layers int64, more bool) {
	t.Helper()
	all, err := i.Standings(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range all {
		if v.Name != name {
			continue
		}
		const configs = mib / 2 // those of images have a few bytes
		if v.ItemsUnheard != items || (v.BytesUnheard+configs)/mib != layers || v.Uncounted != more {
			t.Errorf("%s: %s has %d items and %d bytes to go, more: %v; want %d, %d MiB, %v", when, name,
				v.ItemsUnheard, v.BytesUnheard, v.Uncounted, items, layers, more)
		}
		return
	}
	t.Errorf("%s: there is no %s", when, name)
}

func TestChangesNotHeardOfAreCounted(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "all01", "a", "b/*")
		root.activate(t, "stable", "a")
		root.activate(t, "other", "b/*")
		root.Call(t, "PATCH", "/connected-registries/stable", object{"tagFilters": []string{"v*"}}).OK(t, nil)
		root.Push("a", root.Image("a", "1", layer(1, 4), layer(2, 1)), "v1")
		hear := func(name string) {
			st := good(name)
			st.Watermarks = root.upTo(root.head(t))
			root.receive(t, st)
		}
		for _, name := range []string{"all01", "stable", "other"} {
			hear(name)
			root.wantToGo(t, "heard", name, 0, 0, false)
		}
		root.Push("a", root.Image("a", "2", layer(1, 4), layer(3, 2)), "v2")
		root.Push("a", root.Image("a", "3", layer(3, 2), layer(4, 3)), "edge", "v3")
		root.Push("b/x", root.Image("b/x", "4", layer(5, 1)), "v1")
		root.wantToGo(t, "a layer of v1 counts as here", "all01", 4, 6, false)
		root.wantToGo(t, "edge is not selected", "stable", 2, 5, false)
		root.wantToGo(t, "another repository", "other", 1, 1, false)
		hear("all01")
		root.wantToGo(t, "it has heard of all", "all01", 0, 0, false)
		if err := root.Storage.DeleteTag(t.Context(), "a", "edge"); err != nil {
			t.Fatal(err)
		}
		root.wantToGo(t, "a removal is an item", "all01", 1, 0, false)
		root.wantToGo(t, "a removal that it does not select", "stable", 2, 5, false)
		if err := root.Storage.DeleteRepository(t.Context(), "b/x"); err != nil {
			t.Fatal(err)
		}
		root.wantToGo(t, "a repository is deleted", "all01", 2, 0, false)
		root.wantToGo(t, "a repository is deleted", "other", 1, 0, false)
		root.Call(t, "PATCH", "/connected-registries/stable", object{"tagFilters": []string{}}).OK(t, nil)
		root.wantToGo(t, "what a new filter adds is not known", "stable", 0, 0, true)
		root.activate(t, "fresh", "a")
		root.wantToGo(t, "a first sync", "fresh", 3, 10, false)
	})
}

func TestOnlySelectedPlatformsAreCounted(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "arm01", "a")
	root.Call(t, "PATCH", "/connected-registries/arm01", object{"platforms": []string{"linux/arm64"}}).OK(t, nil)
	st := good("arm01")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	amd64 := root.Push("a", root.Image("a", "amd64", layer(1, 4))).Digest
	arm64 := root.Push("a", root.Image("a", "arm64", layer(2, 2))).Digest
	root.Push("a", storagetest.Index(storagetest.ReferenceFor("linux/amd64", amd64),
		storagetest.ReferenceFor("linux/arm64", arm64)), "v1")
	root.wantToGo(t, "an index", "arm01", 1, 2, false)
}

func TestManyUncountedChangesAreSaid(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "*")
	st := good("ship1")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	for i := range 52 {
		root.push(t, fmt.Sprintf("app/%02d", i), "v1")
	}
	root.wantToGo(t, "many repositories", "ship1", 50, 0, true)
}

func TestClosedWindowHasAnEstimate(t *testing.T) {
	root := newRoot(t) // it is 03:04:05
	root.activate(t, "ship1", "a")
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"syncSchedule": "0 2 * * *", "syncWindow": "PT1H"}).
		OK(t, nil)
	root.Now = root.Now.Add(time.Second)
	st := good("ship1")
	st.Watermarks, st.BytesPerSecond = root.upTo(root.head(t)), mib/600
	root.receive(t, st)
	st.BytesPerSecond = 0
	root.receive(t, st)
	root.Push("a", root.Image("a", "1", layer(1, 3)), "v1")
	next := time.Date(2030, 1, 3, 2, 0, 0, 0, time.UTC)
	s := root.Show(t, "ship1").Summary
	if s.State != api.Waiting || !s.AtMost || s.AtLeast || s.EtaTime == nil || s.EtaWindows == nil ||
		*s.EtaWindows != 1 || s.EtaTime.Sub(next).Round(time.Minute) != 30*time.Minute {
		t.Errorf("3 MiB at 1 MiB in 10 minutes: %+v", s)
	}
	root.Push("a", root.Image("a", "2", layer(1, 3), layer(2, 5)), "v2")
	s = root.Show(t, "ship1").Summary
	if s.EtaTime == nil || *s.EtaWindows != 2 ||
		s.EtaTime.Sub(next).Round(time.Minute) != 24*time.Hour+20*time.Minute {
		t.Errorf("8 MiB in windows of an hour: %+v", s)
	}
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"byteBudget": "1MiB/day"}).OK(t, nil)
	s = root.Show(t, "ship1").Summary
	if s.EtaTime == nil || s.EtaTime.Before(next.Add(7*24*time.Hour)) {
		t.Errorf("with a budget of 1 MiB a day: %+v", s)
	}
	counts, err := root.Counts(t.Context(), fleet.ListQuery{})
	if err != nil || counts.BytesToGo < 3*mib {
		t.Errorf("%+v, %v", counts, err)
	}
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"tagFilters": []string{"v1"}}).OK(t, nil)
	if s = root.Show(t, "ship1").Summary; s.EtaTime != nil || !s.AtLeast {
		t.Errorf("with a new filter: %+v", s)
	}
}

func TestPurgesWaitForReportsOfEarlierBuilds(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	head := root.push(t, "a", "v1")
	st := good("ship1")
	for _, watermarks := range []map[string]int64{nil, root.upTo(head)} { // an earlier build has none
		st.Watermarks = watermarks
		root.receive(t, st)
		holders, err := root.Holders(t.Context())
		if err != nil || len(holders) != 1 || holders[0].Watermark != watermarks[root.Control.InstanceID()] ||
			!holders[0].Includes("a") {
			t.Errorf("with the watermarks %v: %+v, %v", watermarks, holders, err)
		}
	}
}
