package fleet_test

import (
	"fmt"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/fleet"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

var admin = control.Caller{Name: "admin"}

// newLargeTree returns a root with n connected registries, of which all but the first are alone at the top
// or, up to a number, below the first. The first one has the client token line1.
func newLargeTree(t testing.TB, n, below int) *fleet.Service {
	t.Helper()
	c := storagetest.New(t, storage.Options{})
	m := control.DefaultMaxima()
	m.ConnectedRegistries, m.ScopeMaps, m.Tokens, m.GatewayPermissions = 20_000, 30_000, 30_000, 80_000
	resources, err := control.New(t.Context(), control.Options{DB: c.DB, Maxima: &m})
	if err != nil {
		t.Fatal(err)
	}
	s, err := fleet.New(t.Context(), fleet.Options{DB: c.DB, Control: resources, Content: c.Storage})
	if err != nil {
		t.Fatal(err)
	}
	err = resources.Change(t.Context(), func(tx *metadb.Tx) error {
		if err := tx.PutToken(metadb.Token{Name: "line1", Status: api.Enabled, CreatedAt: time.Now()}); err != nil {
			return err
		}
		for i := range n {
			parent := ""
			if i > 0 && i <= below {
				parent = seedName(0)
			}
			if err := seedBelow(tx, i, parent, time.Now()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestChangeCostsTheSameInALargeTree(t *testing.T) {
	allocations := func(n int) float64 {
		s := newLargeTree(t, n, n)
		return testing.AllocsPerRun(20, func() {
			patch := api.RegistryPatch{AddClientTokens: []string{"line1"}} // so that there must be room
			if _, err := s.Update(t.Context(), admin, seedName(1), patch, control.Precondition{}); err != nil {
				t.Fatal(err)
			}
		})
	}
	if small, large := allocations(10), allocations(500); large > small*1.2 {
		t.Errorf("a change makes %v allocations in a tree of 10, and %v in one of 500", small, large)
	}
}

// A creation below another connected registry checks that the desired state of that one has room.
func BenchmarkCreateBelow(b *testing.B) {
	for _, below := range []int{10, 1000, 3000} {
		b.Run(fmt.Sprint(below, " of 10000 below"), func(b *testing.B) {
			s := newLargeTree(b, 10_000, below)
			create := func(i int) {
				put := api.RegistryPut{Parent: seedName(0), Repositories: []string{"apps/nav"}}
				name := fmt.Sprint("new", 10_000+i)
				if _, err := s.Create(b.Context(), admin, name, put, control.Precondition{}); err != nil {
					b.Fatal(err)
				}
			}
			create(0)
			for i := 1; b.Loop(); i++ {
				create(i)
			}
		})
	}
}
