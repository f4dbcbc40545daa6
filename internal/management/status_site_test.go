package management_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// push sets a tag to an image of its own, and returns the feed's newest number.
func (i *instance) push(t *testing.T, repository, tag string) int64 {
	t.Helper()
	head, err := i.storage.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, err = i.storage.PutManifest(t.Context(), storage.Put{
		Repository: repository, Tags: []string{tag},
		Payload: fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"push":"%d"}}`, head),
	})
	if err != nil {
		t.Fatal(err)
	}
	if head, err = i.storage.Head(t.Context()); err != nil {
		t.Fatal(err)
	}
	return head
}

// hear lets a site that is right below say something in a poll from cursor, as
// those do that follow what is for them, unless they say what they follow.
func (i *instance) hear(t *testing.T, cursor int64, st wire.Status, below ...wire.Status) {
	t.Helper()
	d, err := i.Desired(t.Context(), st.Name)
	if err != nil {
		t.Fatal(err)
	}
	if st.At = i.now; st.Reach == "" {
		st.Reach = d.Self.Reach().ID()
	}
	below = slices.Clone(below)
	for n := range below {
		for _, r := range d.ConnectedRegistries {
			if r.Name == below[n].Name {
				below[n].Reach = r.Reach().ID()
			}
		}
	}
	if err := i.Report(t.Context(), st.Name, st.Name, cursor, &wire.Report{Self: st, Descendants: below}); err != nil {
		t.Fatal(err)
	}
}

// site makes a connected registry at the top that an instance of its name holds.
func (i *instance) site(t *testing.T, name string, repositories ...string) {
	t.Helper()
	i.connect(t, name, "", repositories...)
	if err := i.Activate(t.Context(), name, name, "v1"); err != nil {
		t.Fatal(err)
	}
}

// siteStatus returns what is known of a site's sync.
func (i *instance) siteStatus(t *testing.T, name string) (v api.SiteSync) {
	t.Helper()
	i.call(t, "GET", "/connected-registries/"+name+"/sync-status", nil).ok(t, &v)
	return v
}

// siteItems returns what is known of a site's items, a line each: query is of
// the first page.
func (i *instance) siteItems(t *testing.T, name, query string) (lines []string) {
	t.Helper()
	for path := "/connected-registries/" + name + "/sync-items?" + query; path != ""; {
		var page struct {
			Value    []api.SyncItem
			NextLink string
		}
		i.call(t, "GET", path, nil).ok(t, &page)
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
	if diff := cmp.Diff(want, i.siteItems(t, name, query)); diff != "" {
		t.Errorf("%s: %s", when, diff)
	}
}

func TestATagThatTheSiteDidNotKnowOfIsPending(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.site(t, "ship1", "a")
		cursor := root.push(t, "a", "v1")
		st := wire.Status{Name: "ship1", State: "Online", LastSyncEnd: start, LastSyncSuccess: start, ItemsSynced: 1}
		root.hear(t, cursor, st)
		root.wantItems(t, "it knew of it", "ship1", "", "a v1 InSync")

		next := root.push(t, "a", "v2")
		root.wantItems(t, "another came since", "ship1", "", "a v1 InSync", "a v2 Pending")
		root.now = root.now.Add(time.Minute)
		root.hear(t, cursor, st) // the poll whose answer tells of it
		root.wantItems(t, "its poll was made without knowing", "ship1", "", "a v1 InSync", "a v2 Pending")
		root.now = root.now.Add(100 * time.Hour)
		if err := root.storage.TrimFeed(t.Context(), root.now); err != nil {
			t.Fatal(err)
		}
		root.wantItems(t, "it went away there, for longer than the feed is kept", "ship1", "", "a v1 InSync", "a v2 Pending")

		st.ItemsPending, st.Open = 1, []wire.OpenItem{{Repository: "a", Tag: "v2", Digest: "sha256:x"}}
		root.hear(t, next, st)
		root.wantItems(t, "it lacks it", "ship1", "", "a v1 InSync", "a v2 Pending")
		st.ItemsSynced, st.ItemsPending, st.Open = 2, 0, nil
		root.hear(t, next, st)
		root.wantItems(t, "it has it", "ship1", "", "a v1 InSync", "a v2 InSync")
		root.push(t, "a", "v1")
		root.wantItems(t, "the other moved", "ship1", "", "a v1 Pending", "a v2 InSync")
		root.hear(t, 1<<40, st)
		root.wantItems(t, "its place is in another feed", "ship1", "", "a v1 Pending", "a v2 Pending")
	})
}

func TestATagThatTheSiteDidNotKnowToBeForItIsPending(t *testing.T) {
	onEvery(t, func(t *testing.T, root *instance) {
		root.site(t, "ship1", "a")
		root.push(t, "a", "v1")
		root.push(t, "a", "v2")
		cursor := root.push(t, "b", "v1")
		set := func(settings object) {
			root.call(t, "PATCH", "/connected-registries/ship1", settings).ok(t, nil)
		}
		st := wire.Status{Name: "ship1", State: "Online", LastSyncEnd: start, LastSyncSuccess: start, ItemsSynced: 1}
		set(object{"tagFilters": []string{"v2"}})
		root.hear(t, cursor, st)
		root.wantItems(t, "it follows what is for it", "ship1", "", "a v2 InSync")

		set(object{"tagFilters": []string{"v*"}})
		was, err := root.Desired(t.Context(), "ship1")
		if err != nil {
			t.Fatal(err)
		}
		root.wantItems(t, "more tags are for it", "ship1", "", "a v1 Pending", "a v2 InSync")
		set(object{"keepLast": 1})
		root.wantItems(t, "only one of them is", "ship1", "", "a v2 InSync")
		set(object{"keepLast": 0})
		root.call(t, "PATCH", "/scope-maps/ship1", object{"addActions": []string{"repositories/b/content/read", "repositories/b/metadata/read"}}).ok(t, nil)
		root.wantItems(t, "another repository is for it", "ship1", "", "a v1 Pending", "a v2 InSync", "b v1 Pending")

		stale := st
		stale.Reach = was.Self.Reach().ID()
		root.hear(t, root.push(t, "c", "v1"), stale)
		root.wantItems(t, "it follows what nobody remembers", "ship1", "", "a v1 Unknown", "a v2 Unknown", "b v1 Unknown")
		root.hear(t, cursor, st)
		root.wantItems(t, "it heard of all", "ship1", "", "a v1 InSync", "a v2 InSync", "b v1 InSync")
		set(object{"platforms": []string{"linux/amd64"}})
		root.hear(t, cursor, st)
		root.wantItems(t, "it has one platform", "ship1", "", "a v1 InSync", "a v2 InSync", "b v1 InSync")
		set(object{"platforms": []string{"linux/arm64"}})
		root.wantItems(t, "another platform is for it", "ship1", "", "a v1 Unknown", "a v2 Unknown", "b v1 Unknown")
	})
}

func TestAnItemThatIsOpenAndMovedSinceHasYetToBeTried(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	cursor := root.push(t, "a", "v1")
	root.hear(t, cursor, wire.Status{
		Name: "ship1", ItemsFailed: 1, Open: []wire.OpenItem{{Repository: "a", Tag: "v1", Digest: "sha256:x", Error: "no such blob"}},
	})
	root.wantItems(t, "it failed, and moved", "ship1", "", "a v1 Pending")
}

func TestWhatASiteBelowASiteHasFollowsFromTheOrderOfReports(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	root.connect(t, "cabin1", "ship1", "a")
	ship := wire.Status{Name: "ship1", State: "Online", ItemsSynced: 1}
	cabin := wire.Status{Name: "cabin1", InstanceID: "cabin1", State: "Online", ItemsSynced: 1, At: root.now}
	said := func() { // cabin1, to ship1
		cabin.At = cabin.At.Add(time.Second)
		root.now = root.now.Add(time.Minute)
	}
	cursor := root.push(t, "a", "v1")
	root.hear(t, cursor, ship, cabin)
	root.wantItems(t, "ship1 has it, cabin1 was not told", "cabin1", "", "a v1 Unknown")
	root.hear(t, cursor, ship, cabin)
	root.wantItems(t, "cabin1 said nothing new", "cabin1", "", "a v1 Unknown")
	said()
	root.hear(t, cursor, ship, cabin)
	root.wantItems(t, "cabin1 was told with the answer to this", "cabin1", "", "a v1 Unknown")
	said()
	root.hear(t, cursor, ship, cabin)
	root.wantItems(t, "cabin1 said this with what it was told", "cabin1", "", "a v1 InSync")

	next := root.push(t, "a", "v2")
	root.wantItems(t, "ship1 does not know of another", "cabin1", "", "a v1 InSync", "a v2 Pending")
	ship.ItemsPending = 1
	for range 3 {
		said()
		root.hear(t, next, ship, cabin)
		root.wantItems(t, "ship1 lacks it", "cabin1", "", "a v1 InSync", "a v2 Unknown")
	}
	ship.ItemsPending, ship.ItemsSynced = 0, 2
	for range 2 {
		said()
		root.hear(t, next, ship, cabin)
		root.wantItems(t, "ship1 has it", "cabin1", "", "a v1 InSync", "a v2 Unknown")
	}
	said()
	cabin.ItemsSynced = 2
	root.hear(t, next, ship, cabin)
	root.wantItems(t, "all have it", "cabin1", "", "a v1 InSync", "a v2 InSync")

	root.call(t, "POST", "/connected-registries/cabin1/deactivate", nil).ok(t, nil)
	cabin.InstanceID, cabin.Epoch = "cabin2", 1
	said()
	root.hear(t, next, ship, cabin)
	root.wantItems(t, "another became it", "cabin1", "", "a v1 Unknown", "a v2 Unknown")
}

func TestASiteBelowASiteHasNothingOfWhatTheOtherFollowsOnlyNow(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	root.connect(t, "cabin1", "ship1", "*")
	root.call(t, "PATCH", "/scope-maps/ship1", object{"removeActions": []string{"repositories/*/content/read", "repositories/*/metadata/read"}}).ok(t, nil)
	root.push(t, "a", "v1")
	cursor := root.push(t, "b", "v1")
	ship := wire.Status{Name: "ship1", State: "Online", ItemsSynced: 1}
	cabin := wire.Status{Name: "cabin1", InstanceID: "cabin1", State: "Online", ItemsSynced: 1, At: root.now}
	hear := func() {
		cabin.At = cabin.At.Add(time.Second)
		root.now = root.now.Add(time.Minute)
		root.hear(t, cursor, ship, cabin)
	}
	for range 3 {
		hear()
	}
	root.wantItems(t, "ship1 does not follow b", "cabin1", "", "a v1 InSync", "b v1 Pending")
	root.call(t, "PATCH", "/scope-maps/ship1", object{"addActions": []string{"repositories/b/content/read", "repositories/b/metadata/read"}}).ok(t, nil)
	root.wantItems(t, "nobody heard of another repository", "cabin1", "", "a v1 InSync", "b v1 Pending")
	ship.ItemsPending = 1
	for range 2 {
		hear()
		root.wantItems(t, "ship1 lacks it", "cabin1", "", "a v1 Unknown", "b v1 Unknown")
	}
	ship.ItemsPending = 0
	hear()
	hear()
	root.wantItems(t, "ship1 has it, cabin1 may not", "cabin1", "", "a v1 Unknown", "b v1 Unknown")
	hear()
	root.wantItems(t, "all have it", "cabin1", "", "a v1 InSync", "b v1 InSync")
}

func TestASiteBelowASiteIsAsOldAsWhatItSaid(t *testing.T) {
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
			root.site(t, "ship1", "a")
			root.connect(t, "cabin1", "ship1", "a")
			root.hear(t, 0, wire.Status{Name: "ship1", State: "Online"}, wire.Status{Name: "cabin1", InstanceID: "cabin1", State: "Online", At: test.at})
			v := root.siteStatus(t, "cabin1")
			if v.AgeSeconds == nil || *v.AgeSeconds != test.age || v.ConnectionState != test.state {
				t.Errorf("%s, %v s ago; want %s, %d s", v.ConnectionState, v.AgeSeconds, test.state, test.age)
			}
			if r := root.show(t, "cabin1"); !r.LastActivityTime.Equal(start.Add(-time.Duration(test.age) * time.Second)) {
				t.Errorf("last activity at %v", r.LastActivityTime)
			}
		})
	}
}

func TestItemsOfASiteAgreeWithItsCounts(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	var cursor int64
	for _, tag := range []string{"v1", "v2", "v3", "v4"} {
		cursor = root.push(t, "a", tag)
	}
	open := []wire.OpenItem{{Repository: "a", Tag: "v2", Digest: "sha256:x"}}
	for _, test := range []struct {
		name                    string
		synced, pending, failed int
		open                    []wire.OpenItem
		want                    string
	}{
		{"it has counted nothing", 0, 0, 0, nil, "Pending Pending Pending Pending"},
		{"its first sync runs", 3, 1, 0, open, "InSync Pending InSync InSync"},
		{"more is pending than it says", 2, 2, 0, open, "Unknown Pending Unknown Unknown"},
		{"more failed than it says", 2, 1, 1, open, "Unknown Pending Unknown Unknown"},
		{"all is here", 4, 0, 0, nil, "InSync InSync InSync InSync"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.hear(t, cursor, wire.Status{Name: "ship1", State: "Syncing", ItemsSynced: test.synced, ItemsPending: test.pending, ItemsFailed: test.failed, Open: test.open})
			var states []string
			for _, line := range root.siteItems(t, "ship1", "") {
				states = append(states, line[strings.LastIndex(line, " ")+1:])
			}
			if got := strings.Join(states, " "); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestWhatIsOpenAtASiteIsListedWhetherOrNotItSaidSo(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "*")
	root.push(t, "a", "v1")
	cursor := root.push(t, "b", "v1")
	root.wantItems(t, "it was never heard", "ship1", "open=true&n=1", "a v1 Pending", "b v1 Pending")
	loose := digest.FromString("loose")
	root.hear(t, cursor, wire.Status{Name: "ship1", ItemsSynced: 2, ItemsPending: 2, ItemsFailed: 1, Open: []wire.OpenItem{
		{Repository: "b", Digest: loose, Error: "no such blob"}, {Repository: "b", Tag: "v1", Digest: "sha256:x"}, {Repository: "a", Tag: "gone"},
	}})
	root.push(t, "c", "v1")
	root.now = root.now.Add(time.Hour)
	if v := root.siteStatus(t, "ship1"); v.ConnectionState != "Offline" {
		t.Errorf("it is %s", v.ConnectionState)
	}
	want := []string{"a gone ToRemove", "b - Failed", "b v1 Pending", "c v1 Pending"}
	for _, n := range []string{"1", "2", "100"} {
		root.wantItems(t, "it is offline", "ship1", "open=true&n="+n, want...)
		root.wantItems(t, "all of it", "ship1", "n="+n, append([]string{want[0], "a v1 InSync"}, want[1:]...)...)
	}
}

func TestADeactivatedSiteKeepsWhatWasSaidAndIsNotCalledUnheard(t *testing.T) {
	root := newRoot(t)
	root.connect(t, "ship2", "", "a")
	if v := root.siteStatus(t, "ship2"); v.Activation.Status != "Inactive" || v.ConnectionState != "Offline" || v.HeardTime != nil || v.Sync != nil {
		t.Errorf("%+v", v)
	}
	root.site(t, "ship1", "a")
	root.hear(t, 0, wire.Status{Name: "ship1", State: "Online", ItemsSynced: 7, LastSyncSuccess: start, SyncState: "Succeeded"})
	if v := root.siteStatus(t, "ship1"); v.Activation.Status != "Active" {
		t.Errorf("%+v", v)
	}
	root.call(t, "POST", "/connected-registries/ship1/deactivate", nil).ok(t, nil)
	root.now = root.now.Add(time.Second)
	v := root.siteStatus(t, "ship1")
	if v.Activation.Status != "Inactive" || v.ConnectionState != "Offline" || v.AgeSeconds == nil || *v.AgeSeconds != 1 || v.Sync.ItemsSynced != 7 {
		t.Errorf("%+v", v)
	}
	if r := root.show(t, "ship1"); r.Activation.Status != "Inactive" || r.ConnectionState != "Offline" || r.RegistrySyncResult.SyncState != "Succeeded" {
		t.Errorf("%+v", r)
	}
}

func TestTheRootKnowsHowFarEachTagIs(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	cursor := root.push(t, "a", "v1")
	tag, err := root.storage.Tag(t.Context(), "a", "v1")
	if err != nil {
		t.Fatal(err)
	}
	root.hear(t, cursor, wire.Status{Name: "ship1", State: "Syncing", ItemsPending: 1, Open: []wire.OpenItem{
		{Repository: "a", Tag: "v1", Digest: tag.Digest, BytesTotal: 100, BytesDone: 50, BytesPerSecond: 5, SecondsLeft: 13},
	}})
	for _, query := range []string{"", "?open=true"} {
		var page struct{ Value []api.SyncItem }
		root.call(t, "GET", "/connected-registries/ship1/sync-items"+query, nil).ok(t, &page)
		if len(page.Value) != 1 {
			t.Fatalf("%+v", page.Value)
		}
		i := page.Value[0]
		if i.BytesTotal == nil || *i.BytesTotal != 100 || *i.BytesDone != 50 || *i.BytesPerSecond != 5 || i.EtaSeconds == nil || *i.EtaSeconds != 13 {
			t.Errorf("%+v", i)
		}
	}
}

func TestASiteIsAskedForItsOwnSyncElsewhere(t *testing.T) {
	p := newPair(t, newRoot(t), dbtest.SQLite(t))
	for _, path := range []string{"sync-status", "sync-items"} {
		p.ship.call(t, "GET", "/connected-registries/ship01/"+path, nil).fails(t, 400, "INVALID", "this registry itself", "ferry sync status")
	}
}

func TestTheRootKnowsWhereSyncsArePaused(t *testing.T) {
	root := newRoot(t)
	root.site(t, "ship1", "a")
	for _, paused := range []bool{true, false} {
		root.hear(t, 0, wire.Status{Name: "ship1", State: "Online", Paused: paused})
		r := root.show(t, "ship1")
		if got := len(r.StatusDetails) == 1 && r.StatusDetails[0].Code == "Paused"; got != paused || r.ConnectionState != "Online" {
			t.Errorf("paused: %t; %s, %+v", paused, r.ConnectionState, r.StatusDetails)
		}
	}
}
