package fleet_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// A largeFleet is a root with many connected registries, all of which have reported.
type largeFleet struct {
	*fleet.Service
	storagetest.Content
	rootID string
}

// newLargeFleet returns a root with n connected registries. A tenth has sync windows, a twentieth has
// pending items, and each hundredth a full disk.
func newLargeFleet(t testing.TB, n int) *largeFleet {
	t.Helper()
	f := &largeFleet{Content: storagetest.New(t, storage.Options{})}
	resources, err := control.New(t.Context(), control.Options{DB: f.DB})
	if err != nil {
		t.Fatal(err)
	}
	f.Push("apps/nav", storagetest.Index(), "v1")
	now := time.Now().UTC()
	err = resources.Change(t.Context(), func(tx *metadb.Tx) error {
		for i := range n {
			if err := seedRegistry(tx, i, now); err != nil {
				return err
			}
		}
		head, _, err := tx.FeedHead()
		for i := 0; i < n && err == nil; i++ {
			err = seedReport(tx, i, now, map[string]int64{resources.InstanceID(): head})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f.rootID = resources.InstanceID()
	f.Service, err = fleet.New(t.Context(), fleet.Options{DB: f.DB, Control: resources, Content: f.Storage})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func seedName(i int) string { return fmt.Sprintf("ship%05d", i) }

func seedRegistry(tx *metadb.Tx, i int, now time.Time) error { return seedBelow(tx, i, "", now) }

// seedBelow writes a connected registry below parent, with its token and its scope map.
func seedBelow(tx *metadb.Tx, i int, parent string, now time.Time) error {
	name := seedName(i)
	m := metadb.ScopeMap{Name: name, Type: api.UserDefined, CreatedAt: now,
		Actions: []string{"repositories/apps/*/content/read", "repositories/apps/*/metadata/read"}}
	if err := tx.PutScopeMap(m); err != nil {
		return err
	}
	token := metadb.Token{Name: name, ScopeMap: name, Status: api.Enabled, CreatedAt: now,
		Passwords: []metadb.Password{{Name: api.Password1, Hash: "0", CreatedAt: now}}}
	if err := tx.PutToken(token); err != nil {
		return err
	}
	spec := control.Spec{Spec: wire.Spec{
		Mode: api.ReadOnly, Schedule: "* * * * *", MessageTTL: "P2D", LogLevel: "Information", GCSchedule: "0 0 * * *",
		Labels: map[string]string{"group": fmt.Sprint("g", i%20)},
	}}
	if i%10 == 0 {
		spec.Schedule, spec.SyncWindow = fmt.Sprintf("%d %d * * *", i/10%60, i/600%24), "PT1H"
	}
	row := metadb.ConnectedRegistry{Name: name, Parent: parent, SyncToken: name, CreatedAt: now}
	if err := control.PutSpec(tx, row, spec); err != nil {
		return err
	}
	return tx.SetActivation(name, "i"+name)
}

func seedReport(tx *metadb.Tx, i int, now time.Time, watermarks map[string]int64) error {
	st := wire.Status{
		Name: seedName(i), InstanceID: "i" + seedName(i), Version: "v0.3.0", State: api.Online, At: now,
		LastSyncSuccess: now, ItemsSynced: 1, Watermarks: watermarks,
	}
	if i%20 == 1 {
		st.ItemsPending, st.BytesTotal, st.BytesDone = 3, 900<<20, 100<<20
	}
	if i%100 == 2 {
		st.ItemsFailed, st.Details = 1, []wire.StatusDetail{{Type: "Disk", Code: "DiskError"}}
	}
	report, err := json.Marshal(map[string]any{"seenAt": now, "status": st})
	if err != nil {
		return err
	}
	return tx.SetConnectedRegistryStatus(seedName(i), report)
}

// An answer on 10,000 connected registries takes 100 ms. The benchmark fails if one takes three times
// as long.
func BenchmarkLargeFleet(b *testing.B) {
	const n = 10_000
	f := newLargeFleet(b, n)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	counts, err := f.Counts(b.Context(), fleet.ListQuery{})
	if err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.Logf("%d in sync of %d; %d bytes of memory each for the first look", counts.InSync, counts.Sites,
		(int64(after.HeapAlloc)-int64(before.HeapAlloc))/n)

	worst := fleet.ListQuery{Filter: "-group:g7 behind>0s", Worst: true, Limit: 50}
	measure := func(name string, do func() error) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := do(); err != nil {
					b.Fatal(err)
				}
			}
			if took := b.Elapsed() / time.Duration(b.N); took > 300*time.Millisecond {
				b.Errorf("takes %s; want 100 ms", took)
			}
		})
	}
	list := func() error {
		_, _, err := f.List(b.Context(), worst)
		return err
	}
	measure("worst first with a filter", list)
	measure("counts", func() error { _, err := f.Counts(b.Context(), fleet.ListQuery{}); return err })
	coverage := func() error {
		_, _, err := f.Coverage(b.Context(), fleet.CoverageQuery{Image: "apps/nav:v1", Missing: true, Limit: 50})
		return err
	}
	measure("coverage", coverage)
	pushed := 0
	push := func() {
		m := storagetest.Index()
		pushed++
		m.Annotations = map[string]string{"n": fmt.Sprint(pushed)}
		f.Push("apps/nav", m, "v1")
	}
	measure("worst first after a push to all", func() error { push(); return list() })
	for i := range 40 {
		f.Push(fmt.Sprintf("apps/other%02d", i), f.Image(fmt.Sprintf("apps/other%02d", i), "config"), "v1")
	}
	measure("worst first after a push to all, 41 repositories behind", func() error { push(); return list() })
	measure("a poll", func() error { return f.Report(b.Context(), seedName(5), "i"+seedName(5), nil) })
}

func TestPollCostsTheSameInALargeFleet(t *testing.T) {
	allocations := func(n int) float64 {
		f := newLargeFleet(t, n)
		if _, err := f.Standings(t.Context()); err != nil {
			t.Fatal(err)
		}
		return testing.AllocsPerRun(100, func() {
			if err := f.Report(t.Context(), seedName(5), "i"+seedName(5), nil); err != nil {
				t.Fatal(err)
			}
		})
	}
	if small, large := allocations(10), allocations(1000); large > small+5 {
		t.Errorf("a poll makes %v allocations in a fleet of 10, and %v in one of 1,000", small, large)
	}
}
