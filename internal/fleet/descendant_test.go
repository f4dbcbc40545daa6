package fleet_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// push pushes a new image with the tag, and returns the feed's number of that change.
func (i *instance) push(t *testing.T, repository, tag string) int64 {
	t.Helper()
	m := storagetest.Index()
	m.Annotations = map[string]string{"push": fmt.Sprint(i.head(t))}
	i.Push(repository, m, tag)
	return i.head(t)
}

// head returns the feed's number of the last change.
func (i *instance) head(t *testing.T) (head int64) {
	t.Helper()
	err := i.Storage.View(t.Context(), func(v *storage.View) (err error) {
		head, _, err = v.FeedHead()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

// upTo returns watermarks that cover everything up to the number seq.
func (i *instance) upTo(seq int64) map[string]int64 {
	return map[string]int64{i.Control.InstanceID(): seq, "a registry between": 1 << 40}
}

// receive handles a report of a child, with the reports of its descendants.
func (i *instance) receive(t *testing.T, st wire.Status, below ...wire.Status) {
	t.Helper()
	st.At = i.Now
	if err := i.Report(t.Context(), st.Name, st.Name, &wire.Report{Self: st, Descendants: below}); err != nil {
		t.Fatal(err)
	}
	i.Polling(st.Name)(true)
}

// activate creates a child, and activates an instance of the same name.
func (i *instance) activate(t *testing.T, name string, repositories ...string) {
	t.Helper()
	i.Connect(t, name, "", repositories...)
	i.SyncPassword(t, name)
	if err := i.Activate(t.Context(), name, name, "v1", from); err != nil {
		t.Fatal(err)
	}
}

// descendantSync returns the sync status of a descendant.
func (i *instance) descendantSync(t *testing.T, name string) (v api.DescendantSync) {
	t.Helper()
	i.Call(t, "GET", "/connected-registries/"+name+"/sync-status", nil).OK(t, &v)
	return v
}

// descendantItems returns the items of a descendant, a line each. query is that of the first page.
func (i *instance) descendantItems(t *testing.T, name, query string) (lines []string) {
	t.Helper()
	for path := "/connected-registries/" + name + "/sync-items?" + query; path != ""; {
		var page struct {
			Value    []api.SyncItem
			NextLink string
		}
		i.Call(t, "GET", path, nil).OK(t, &page)
		for _, v := range page.Value {
			tag := "-"
			if v.Tag != nil {
				tag = *v.Tag
			}
			lines = append(lines, v.Repository+" "+tag+" "+v.State)
		}
		path = strings.TrimPrefix(page.NextLink, "/api/v1")
	}
	return lines
}

func (i *instance) wantItems(t *testing.T, when, name, query string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, i.descendantItems(t, name, query)); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

func TestTagAboveTheWatermarkIsPending(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a")
		first := root.push(t, "a", "v1")
		root.wantItems(t, "no report yet", "ship1", "", "a v1 Pending")
		st := wire.Status{Name: "ship1", State: "Online", Watermarks: root.upTo(first - 1)}
		root.receive(t, st)
		root.wantItems(t, "its watermark is below the tag", "ship1", "", "a v1 Pending")
		st.Watermarks, st.ItemsSynced = root.upTo(first), 1
		root.receive(t, st)
		root.wantItems(t, "its watermark covers the tag", "ship1", "", "a v1 InSync")

		next := root.push(t, "a", "v2")
		root.wantItems(t, "another tag was pushed", "ship1", "", "a v1 InSync", "a v2 Pending")
		root.Now = root.Now.Add(time.Minute)
		root.receive(t, st)
		root.wantItems(t, "the same report again", "ship1", "", "a v1 InSync", "a v2 Pending")
		root.Now = root.Now.Add(100 * time.Hour)
		if err := root.Storage.TrimFeed(t.Context(), 0); err != nil {
			t.Fatal(err)
		}
		root.wantItems(t, "it was offline for longer than tombstones are kept", "ship1", "",
			"a v1 Unknown", "a v2 Pending")

		st.Watermarks, st.ItemsPending = root.upTo(next), 1
		st.OutOfSync = []wire.OutOfSyncItem{{Repository: "a", Tag: "v2",
			Digest: "sha256:x"}}
		root.receive(t, st)
		root.wantItems(t, "it reports the tag as pending", "ship1", "", "a v1 InSync", "a v2 Pending")
		st.ItemsSynced, st.ItemsPending, st.OutOfSync = 2, 0, nil
		root.receive(t, st)
		root.wantItems(t, "it reports the tag as synced", "ship1", "", "a v1 InSync", "a v2 InSync")
		root.push(t, "b", "v1")
		root.wantItems(t, "another repository changed", "ship1", "", "a v1 InSync", "a v2 InSync")
		root.push(t, "a", "v1")
		root.wantItems(t, "the first tag was set again", "ship1", "", "a v1 Pending", "a v2 InSync")
	})
}

func TestWatermarkOfAnotherDatabaseIsIgnored(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	head := root.push(t, "a", "v1")
	for _, test := range []struct {
		name       string
		watermarks map[string]int64
		want       string
	}{
		{"of this one", root.upTo(head), "a v1 InSync"},
		{"beyond the head of a restored database", root.upTo(head + 1), "a v1 Pending"},
		{"of another feed", map[string]int64{"another": head}, "a v1 Pending"},
		{"none while it does not know", nil, "a v1 Pending"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.receive(t, wire.Status{Name: "ship1", State: "Online", ItemsSynced: 1, Watermarks: test.watermarks})
			root.wantItems(t, "after the report", "ship1", "", test.want)
		})
	}
}

// tree returns a root with ship1, and cabin1 below it, that may read repository a and have all its
// tags; and the reports of both.
func tree(t *testing.T, root *instance) (ship, cabin wire.Status) {
	t.Helper()
	root.activate(t, "ship1", "a")
	root.Connect(t, "cabin1", "ship1", "a")
	root.SyncPassword(t, "cabin1")
	root.push(t, "b", "v1")
	root.push(t, "a", "v1")
	known := root.upTo(root.push(t, "a", "v2"))
	ship = wire.Status{Name: "ship1", State: "Online", ItemsSynced: 2, Watermarks: known}
	cabin = wire.Status{Name: "cabin1", InstanceID: "cabin1", State: "Online", ItemsSynced: 2, Watermarks: known}
	root.receiveBoth(t, ship, cabin)
	for _, name := range []string{"ship1", "cabin1"} {
		root.wantItems(t, "at first", name, "", "a v1 InSync", "a v2 InSync")
	}
	return ship, cabin
}

// receiveBoth handles a report of ship, a second later, that forwards a new report of cabin.
func (i *instance) receiveBoth(t *testing.T, ship, cabin wire.Status) {
	t.Helper()
	i.Now = i.Now.Add(time.Second)
	cabin.At = i.Now
	i.receive(t, ship, cabin)
}

func TestTagsAreUnknownAfterASubscriptionChange(t *testing.T) {
	reading := func(repository string) []string {
		return []string{"repositories/" + repository + "/content/read", "repositories/" + repository + "/metadata/read"}
	}
	var (
		same    = []string{"a v1 InSync", "a v2 InSync"}
		unknown = []string{"a v1 Unknown", "a v2 Unknown"}
	)
	for _, test := range []struct {
		name        string
		path        string
		body        object
		ship, cabin []string
	}{
		{"a tag filter of the site's", "/connected-registries/cabin1", object{"tagFilters": []string{"v2"}}, same,
			[]string{"a v2 Unknown"}},
		{"a tag filter of an ancestor's", "/connected-registries/ship1", object{"tagFilters": []string{"v2"}},
			[]string{"a v2 Unknown"}, []string{"a v2 Unknown"}},
		{"keep-last", "/connected-registries/ship1", object{"keepLast": 1}, []string{"a v2 Unknown"},
			[]string{"a v2 Unknown"}},
		{"platforms", "/connected-registries/ship1", object{"platforms": []string{"linux/amd64"}}, unknown, unknown},
		{"the site's scope map", "/scope-maps/cabin1", object{"addActions": reading("b")}, same,
			unknown}, // ship1 does not get b
		{"an ancestor's scope map", "/scope-maps/ship1", object{"addActions": reading("b")},
			append(unknown, "b v1 Unknown"), unknown},
		{"a smaller scope map", "/scope-maps/ship1", object{"removeActions": reading("a"), "addActions": reading("b")},
			[]string{"b v1 Unknown"}, nil},
		{"another scope map of a sync token", "/tokens/ship1", object{"scopeMap": "old"},
			append(unknown, "b v1 Unknown"), unknown},
		{"a scope map's description", "/scope-maps/ship1", object{"description": "other"}, same, same},
		{"a setting that selects nothing", "/connected-registries/ship1",
			object{"gcEnabled": false, "bandwidth": []string{"1Mbit"}}, same, same},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newRoot(t)
			root.PutScopeMap(t, "old", append(reading("a"), reading("b")...)...)
			ship, cabin := tree(t, root)
			root.Call(t, "PATCH", test.path, test.body).OK(t, nil)
			root.wantItems(t, "neither knows of the change", "ship1", "", test.ship...)
			root.wantItems(t, "neither knows of the change", "cabin1", "", test.cabin...)

			ship.Watermarks = root.upTo(root.head(t))
			root.receiveBoth(t, ship, cabin)
			root.wantItems(t, "ship1 knows of it", "ship1", "", inSync(test.ship)...)
			root.wantItems(t, "ship1 knows of it", "cabin1", "", test.cabin...)
			cabin.Watermarks = ship.Watermarks
			root.receiveBoth(t, ship, cabin)
			root.wantItems(t, "both know of it", "cabin1", "", inSync(test.cabin)...)
		})
	}
}

// inSync returns lines of [instance.descendantItems] with Unknown replaced by InSync.
func inSync(lines []string) (all []string) {
	for _, line := range lines {
		all = append(all, strings.Replace(line, "Unknown", "InSync", 1))
	}
	return all
}

func TestTagReturningIntoKeepLastIsUnknown(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"keepLast": 1}).OK(t, nil)
	root.push(t, "a", "v1")
	root.Now = root.Now.Add(time.Minute)
	st := wire.Status{Name: "ship1", State: "Online", ItemsSynced: 1, Watermarks: root.upTo(root.push(t, "a", "v2"))}
	root.receive(t, st)
	root.wantItems(t, "it has the newest tag", "ship1", "", "a v2 InSync")
	root.Now = root.Now.Add(time.Minute)
	root.push(t, "a", "v3")
	root.wantItems(t, "a newer tag was pushed", "ship1", "", "a v3 Pending")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"keepLast": 2}).OK(t, nil)
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	root.Now = root.Now.Add(time.Minute)
	root.push(t, "a", "v4")
	root.wantItems(t, "a newer tag was pushed", "ship1", "", "a v3 InSync", "a v4 Pending")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	if err := root.Storage.DeleteTag(t.Context(), "a", "v4"); err != nil {
		t.Fatal(err)
	}
	root.wantItems(t, "the newest tag was deleted", "ship1", "", "a v2 Unknown", "a v3 Unknown")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	root.wantItems(t, "it knows of the change", "ship1", "", "a v2 InSync", "a v3 InSync")
}

func TestSignatureOfANewlySelectedImageIsUnknown(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	root.Call(t, "PATCH", "/connected-registries/ship1", object{"tagFilters": []string{"v*"}}).OK(t, nil)
	root.push(t, "a", "x1")
	image, err := root.Storage.Tag(t.Context(), "a", "x1")
	if err != nil {
		t.Fatal(err)
	}
	signature := "sha256-" + image.Digest.Encoded() + ".sig"
	root.push(t, "a", signature)
	st := wire.Status{Name: "ship1", State: "Online", ItemsSynced: 1, Watermarks: root.upTo(root.push(t, "a", "v1"))}
	root.receive(t, st)
	root.wantItems(t, "neither is selected", "ship1", "", "a v1 InSync")
	if err := root.Storage.SetTag(t.Context(), "a", "v1", image.Digest); err != nil {
		t.Fatal(err)
	}
	root.wantItems(t, "v1 is set to the image", "ship1", "", "a "+signature+" Unknown", "a v1 Pending")
	st.Watermarks = root.upTo(root.head(t))
	root.receive(t, st)
	root.wantItems(t, "it knows of the change", "ship1", "", "a "+signature+" InSync", "a v1 InSync")
}

func TestRemovedSignatureLeavesTagsInSync(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.activate(t, "ship1", "a")
		image, other := storagetest.Index(), storagetest.Index()
		other.Annotations = map[string]string{"other": "image"}
		root.Push("a", other, "v2")
		v1 := root.Push("a", image, "v1")
		for n := range 2 {
			signature := storagetest.Index()
			signature.Subject, signature.Annotations = &v1, map[string]string{"signature": fmt.Sprint(n)}
			root.Push("a", signature)
		}
		signatures, err := root.Storage.ReferrerDigests(t.Context(), "a", v1.Digest)
		if err != nil || len(signatures) != 2 {
			t.Fatalf("%v, %v", signatures, err)
		}
		st := wire.Status{Name: "ship1", State: "Online", ItemsSynced: 4, LastSyncSuccess: start,
			Watermarks: root.upTo(root.head(t))}
		root.receive(t, st)
		if v := root.descendantSync(t, "ship1"); !v.InSync {
			t.Errorf("at first: %+v", v.Verdict)
		}
		if err := root.Storage.DeleteManifest(t.Context(), "a", signatures[0]); err != nil {
			t.Fatal(err)
		}
		if v := root.descendantSync(t, "ship1"); v.Status != api.NotInSync {
			t.Errorf("a signature was removed: %+v", v.Verdict)
		}
		root.wantItems(t, "a signature was removed", "ship1", "", "a v1 InSync", "a v2 InSync")
	})
}

func TestOnlyTagsOfAChangedIndexArePending(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	child := root.Push("a", storagetest.Index())
	index := storagetest.Index(child)
	root.Push("a", index, "v1")
	root.push(t, "a", "v2")
	root.receive(t, wire.Status{Name: "ship1", State: "Online", ItemsSynced: 2, Watermarks: root.upTo(root.head(t))})
	root.wantItems(t, "at first", "ship1", "", "a v1 InSync", "a v2 InSync")
	root.Push("a", index)
	root.wantItems(t, "the index was pushed again", "ship1", "", "a v1 InSync", "a v2 InSync")
	part := storage.Put{Repository: "a", Payload: index.Payload(), Omitted: []digest.Digest{child.Digest}}
	if _, err := root.Storage.PutManifest(t.Context(), part); err != nil {
		t.Fatal(err)
	}
	root.wantItems(t, "the index was pushed without its child", "ship1", "", "a v1 Pending", "a v2 InSync")
}

func TestFailedItemThatMovedIsPending(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	root.receive(t, wire.Status{
		Name: "ship1", ItemsFailed: 1, Watermarks: root.upTo(root.push(t, "a", "v1")),
		OutOfSync: []wire.OutOfSyncItem{{Repository: "a", Tag: "v1", Digest: "sha256:x", Error: "no such blob"}},
	})
	root.wantItems(t, "the tag failed, and was set again", "ship1", "", "a v1 Pending")
}

func TestGrandchildIsKnownByItsOwnWatermark(t *testing.T) {
	root := newRoot(t)
	ship, cabin := tree(t, root)
	next := root.push(t, "a", "v3")
	open := []wire.OutOfSyncItem{{Repository: "a", Tag: "v3", Digest: "sha256:x"}}
	for _, step := range []struct {
		name        string
		report      func()
		ship, cabin string // of v3
	}{
		{"nobody knows of it", func() {}, "Pending", "Pending"},
		{"ship1 knows of it", func() { ship.Watermarks, ship.ItemsPending, ship.OutOfSync = root.upTo(next), 1, open },
			"Pending", "Pending"},
		{"ship1 has it", func() {
			ship.ItemsSynced, ship.ItemsPending, ship.OutOfSync = 3, 0, nil
		}, "InSync", "Pending"},
		{"ship1 says so again", func() {}, "InSync", "Pending"},
		{"cabin1 lacks it", func() { cabin.Watermarks, cabin.ItemsPending, cabin.OutOfSync = root.upTo(next), 1, open },
			"InSync", "Pending"},
		{"cabin1 has it", func() {
			cabin.ItemsSynced, cabin.ItemsPending, cabin.OutOfSync = 3, 0, nil
		}, "InSync", "InSync"},
	} {
		step.report()
		root.receiveBoth(t, ship, cabin)
		for name, want := range map[string]string{"ship1": step.ship, "cabin1": step.cabin} {
			root.wantItems(t, step.name, name, "", "a v1 InSync", "a v2 InSync", "a v3 "+want)
		}
	}

	cabin.ItemsPending = 2
	root.receiveBoth(t, ship, cabin)
	root.wantItems(t, "it lists too few items out of sync", "cabin1", "",
		"a v1 Unknown", "a v2 Unknown", "a v3 Unknown")
	root.push(t, "a", "v2")
	root.wantItems(t, "a tag was set again", "cabin1", "", "a v1 Unknown", "a v2 Pending", "a v3 Unknown")
}

func TestReportOfAnotherActivationIsIgnored(t *testing.T) {
	root := newRoot(t)
	ship, cabin := tree(t, root)
	was := cabin
	root.Call(t, "POST", "/connected-registries/cabin1/deactivate", nil).OK(t, nil)
	cabin.InstanceID, cabin.Epoch, cabin.Watermarks = "cabin2", 1, nil
	root.receiveBoth(t, ship, cabin)
	root.wantItems(t, "another instance activated it", "cabin1", "", "a v1 Pending", "a v2 Pending")
	root.receiveBoth(t, ship, was)
	root.wantItems(t, "ship1 forwards a report of the first instance", "cabin1", "", "a v1 Pending", "a v2 Pending")
	cabin.Watermarks = was.Watermarks
	root.receiveBoth(t, ship, cabin)
	root.wantItems(t, "the second instance has everything", "cabin1", "", "a v1 InSync", "a v2 InSync")

	root.Call(t, "POST", "/connected-registries/ship1/deactivate", nil).OK(t, nil)
	if err := root.Activate(t.Context(), "ship1", "ship2", "v1", from); err != nil {
		t.Fatal(err)
	}
	root.wantItems(t, "another instance activated ship1", "ship1", "", "a v1 Pending", "a v2 Pending")
}

func TestWatermarkIsForwardedToTheRoot(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	p.root.Connect(t, "Cabin1", "Ship01", "a")
	p.root.SyncPassword(t, "Cabin1")
	p.apply(t)
	if err := p.ship.Activate(t.Context(), "Cabin1", "cabin", "v1", from); err != nil {
		t.Fatal(err)
	}
	p.root.push(t, "a", "v1")
	p.ship.push(t, "a", "v1")
	for _, step := range []struct {
		name       string
		watermarks map[string]int64
		root, ship string
	}{
		{"it knows of nothing", nil, "a v1 Pending", "a v1 Pending"},
		{"it knows of all that Ship01 had before", p.ship.upTo(p.ship.head(t)), "a v1 Pending", "a v1 InSync"},
		{"it knows of all",
			map[string]int64{p.root.Control.InstanceID(): p.root.head(t), p.ship.Control.InstanceID(): p.ship.head(t)},
			"a v1 InSync", "a v1 InSync"},
	} {
		p.ship.Now = p.ship.Now.Add(time.Second)
		st := wire.Status{Name: "Cabin1", State: "Online", ItemsSynced: 1, At: p.ship.Now, Watermarks: step.watermarks}
		if err := p.ship.Report(t.Context(), "Cabin1", "cabin", &wire.Report{Self: st}); err != nil {
			t.Fatal(err)
		}
		p.report(t)
		p.root.wantItems(t, step.name, "Cabin1", "", step.root)
		p.ship.wantItems(t, step.name, "Cabin1", "", step.ship)
	}
}

func TestForwardedReportKeepsItsAge(t *testing.T) {
	for _, test := range []struct {
		name  string
		at    time.Time
		age   int64
		state string
	}{
		{"just now", start, 0, "Online"},
		{"a poll of each level ago", start.Add(-5 * time.Minute), 300, "Online"},
		{"before the link was down", start.Add(-3 * time.Hour), 3 * 3600, "Offline"},
		{"by a clock that is ahead", start.Add(time.Hour), 0, "Online"},
		{"by a program that does not say when", time.Time{}, 0, "Online"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root := newRoot(t)
			root.activate(t, "ship1", "a")
			root.Connect(t, "cabin1", "ship1", "a")
			root.receive(t, wire.Status{Name: "ship1", State: "Online"},
				wire.Status{Name: "cabin1", InstanceID: "cabin1", State: "Online", At: test.at})
			v := root.descendantSync(t, "cabin1")
			if v.AgeSeconds == nil || *v.AgeSeconds != test.age || v.ConnectionState != test.state {
				t.Errorf("%s, %v s ago; want %s, %d s", v.ConnectionState, v.AgeSeconds, test.state, test.age)
			}
			if r := root.Show(t,
				"cabin1"); !r.LastActivityTime.Equal(start.Add(-time.Duration(test.age) * time.Second)) {
				t.Errorf("last activity at %v", r.LastActivityTime)
			}
		})
	}
}

func TestItemsAgreeWithReportedCounts(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	for _, tag := range []string{"v1", "v2", "v3", "v4"} {
		root.push(t, "a", tag)
	}
	known := root.upTo(root.head(t))
	open := []wire.OutOfSyncItem{{Repository: "a", Tag: "v2", Digest: "sha256:x"}}
	for _, test := range []struct {
		name                    string
		watermarks              map[string]int64
		synced, pending, failed int
		open                    []wire.OutOfSyncItem
		want                    string
	}{
		{"it has counted nothing", nil, 0, 0, 0, nil, "Pending Pending Pending Pending"},
		{"it has not heard of all", nil, 3, 1, 0, open, "Pending Pending Pending Pending"},
		{"its first sync runs", known, 3, 1, 0, open, "InSync Pending InSync InSync"},
		{"more is pending than it says", known, 2, 2, 0, open, "Unknown Pending Unknown Unknown"},
		{"more failed than it says", known, 2, 1, 1, open, "Unknown Pending Unknown Unknown"},
		{"all is here", known, 4, 0, 0, nil, "InSync InSync InSync InSync"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.receive(t, wire.Status{
				Name: "ship1", State: "Syncing", Watermarks: test.watermarks,
				ItemsSynced: test.synced, ItemsPending: test.pending, ItemsFailed: test.failed, OutOfSync: test.open,
			})
			var states []string
			for _, line := range root.descendantItems(t, "ship1", "") {
				states = append(states, line[strings.LastIndex(line, " ")+1:])
			}
			if got := strings.Join(states, " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestPendingItemsAreListedWithoutAReport(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "*")
	root.push(t, "a", "v1")
	known := root.upTo(root.push(t, "b", "v1"))
	root.wantItems(t, "no report yet", "ship1", "open=true&n=1", "a v1 Pending", "b v1 Pending")
	untagged := digest.FromString("untagged")
	root.receive(t,
		wire.Status{Name: "ship1", Watermarks: known, ItemsSynced: 2, ItemsPending: 2, ItemsFailed: 1,
			OutOfSync: []wire.OutOfSyncItem{
				{Repository: "b", Digest: untagged, Error: "no such blob"},
				{Repository: "b", Tag: "v1", Digest: "sha256:x"},
				{Repository: "a", Tag: "gone"},
			}})
	root.push(t, "c", "v1")
	root.Now = root.Now.Add(10 * time.Minute)
	if v := root.descendantSync(t, "ship1"); v.ConnectionState != "Offline" {
		t.Errorf("it is %s", v.ConnectionState)
	}
	want := []string{"a gone ToRemove", "b - Failed", "b v1 Pending", "c v1 Pending"}
	for _, n := range []string{"1", "2", "100"} {
		root.wantItems(t, "it is offline", "ship1", "open=true&n="+n, want...)
		root.wantItems(t, "all items", "ship1", "n="+n, append([]string{want[0], "a v1 InSync"}, want[1:]...)...)
	}
}

func TestItemsOfDeletedRepositoriesAreListedInOrder(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "*")
	err := root.DB.Update(t.Context(), func(tx *metadb.Tx) error {
		for n := range 501 { // more than are read at once
			if err := tx.TouchRepository(fmt.Sprintf("r%03d", n), start); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	root.push(t, "r500", "v1")
	st := wire.Status{Name: "ship1", ItemsPending: 4}
	want := []string{"a gone ToRemove", "r007-gone gone ToRemove", "r499 gone ToRemove", "r500 v1 Pending",
		"z gone ToRemove"}
	for _, repository := range []string{"z", "r499", "a", "r007-gone"} {
		st.OutOfSync = append(st.OutOfSync, wire.OutOfSyncItem{Repository: repository, Tag: "gone"})
	}
	root.receive(t, st)
	for _, n := range []string{"1", "2", "100"} {
		root.wantItems(t, "pages of "+n, "ship1", "n="+n, want...)
	}
}

func TestDeactivatedRegistryKeepsItsLastReport(t *testing.T) {
	root := newRoot(t)
	root.Connect(t, "ship2", "", "a")
	if v := root.descendantSync(t, "ship2"); v.Activation.Status != "Inactive" || v.ConnectionState != "Offline" ||
		v.HeardTime != nil || v.Sync != nil {
		t.Errorf("%+v", v)
	}
	root.activate(t, "ship1", "a")
	root.receive(t,
		wire.Status{Name: "ship1", State: "Online", ItemsSynced: 7, LastSyncSuccess: start, SyncState: "Succeeded"})
	if v := root.descendantSync(t, "ship1"); v.Activation.Status != "Active" {
		t.Errorf("%+v", v)
	}
	root.Call(t, "POST", "/connected-registries/ship1/deactivate", nil).OK(t, nil)
	root.Now = root.Now.Add(time.Second)
	v := root.descendantSync(t, "ship1")
	if v.Activation.Status != "Inactive" || v.ConnectionState != "Offline" || v.AgeSeconds == nil ||
		*v.AgeSeconds != 1 || v.Sync.ItemsSynced != 7 {
		t.Errorf("%+v", v)
	}
	if r := root.Show(t, "ship1"); r.Activation.Status != "Inactive" || r.ConnectionState != "Offline" ||
		r.RegistrySyncResult.SyncState != "Succeeded" {
		t.Errorf("%+v", r)
	}
}

func TestItemsShowReportedProgress(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	known := root.upTo(root.push(t, "a", "v1"))
	tag, err := root.Storage.Tag(t.Context(), "a", "v1")
	if err != nil {
		t.Fatal(err)
	}
	root.receive(t, wire.Status{
		Name: "ship1", State: "Syncing", Watermarks: known, ItemsPending: 1, OutOfSync: []wire.OutOfSyncItem{
			{Repository: "a", Tag: "v1", Digest: tag.Digest, BytesTotal: 100, BytesDone: 50, BytesPerSecond: 5,
				SecondsLeft: 13},
		},
	})
	for _, query := range []string{"", "?open=true"} {
		var page struct{ Value []api.SyncItem }
		root.Call(t, "GET", "/connected-registries/ship1/sync-items"+query, nil).OK(t, &page)
		if len(page.Value) != 1 {
			t.Fatalf("%+v", page.Value)
		}
		i := page.Value[0]
		if i.BytesTotal == nil || *i.BytesTotal != 100 || *i.BytesDone != 50 || *i.BytesPerSecond != 5 ||
			i.EtaSeconds == nil || *i.EtaSeconds != 13 {
			t.Errorf("%+v", i)
		}
	}
}

func TestOwnSyncIsNotADescendantsSync(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	for _, path := range []string{"sync-status", "sync-items"} {
		p.ship.Call(t, "GET", "/connected-registries/ship01/"+path, nil).Fails(t, 400, "INVALID",
			"this registry itself", "ferry sync status")
	}
}

func TestPausedSyncIsShownAtTheRoot(t *testing.T) {
	root := newRoot(t)
	root.activate(t, "ship1", "a")
	for _, paused := range []bool{true, false} {
		root.receive(t, wire.Status{Name: "ship1", State: "Online", Paused: paused})
		r := root.Show(t, "ship1")
		if got := len(r.StatusDetails) == 1 && r.StatusDetails[0].Code == "Paused"; got != paused ||
			r.ConnectionState != "Online" {
			t.Errorf("paused: %t; %s, %+v", paused, r.ConnectionState, r.StatusDetails)
		}
	}
}
