package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	iradix "github.com/hashicorp/go-immutable-radix/v2"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

func newService(t *testing.T, self string) *Service {
	t.Helper()
	db, err := metadb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "ferry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	s, err := New(t.Context(), Options{DB: db, Self: self})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// dump returns all results of a state's methods, as text.
func (s *State) dump() map[string]string {
	all := map[string]string{"version": fmt.Sprint(s.version)}
	s.registries.Root().Walk(func(k []byte, r *Registry) bool {
		all["registry "+string(k)] = fmt.Sprintf("%s %s %s %v", r.Parent, r.SyncToken, r.InstanceID, r.Settings)
		return false
	})
	s.children.Root().Walk(func(k []byte, r *Registry) bool {
		all["child "+string(k)] = fmt.Sprintf("%s %v", r.Name, r.Settings)
		return false
	})
	s.tokens.Root().Walk(func(k []byte, t *Token) bool {
		all["token "+string(k)] = fmt.Sprintf("%v %v %v", t.Token, t.Actions, t.Permissions)
		return false
	})
	s.scopeMaps.Root().Walk(func(k []byte, m *metadb.ScopeMap) bool {
		all["scope map "+string(k)] = fmt.Sprintf("%v", *m)
		return false
	})
	indexes := map[string]*iradix.Tree[string]{"registry of": s.registriesByToken, "token of": s.tokensByScopeMap}
	for name, index := range indexes {
		index.Root().Walk(func(k []byte, v string) bool {
			all[name+" "+string(k)] = v
			return false
		})
	}
	return all
}

// TestStateFollowsEveryWrite makes random changes, and compares the resulting state with one that
// is read from the database.
func TestStateFollowsEveryWrite(t *testing.T) {
	s := newService(t, "")
	rng := rand.New(rand.NewPCG(1, 2))
	name := func(kind string) string { return fmt.Sprint(kind, rng.IntN(4)) }
	for i := range 300 {
		before := s.State().dump()
		err := s.Change(t.Context(), func(tx *metadb.Tx) error {
			for range 1 + rng.IntN(3) {
				if err := randomWrite(tx, rng, name); err != nil && !errors.Is(err, metadb.ErrNotFound) {
					return err
				}
			}
			if rng.IntN(5) == 0 {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			t.Fatal(err)
		}
		if err != nil {
			if diff := cmp.Diff(before, s.State().dump()); diff != "" {
				t.Fatalf("step %d: a change that failed is in the state: %s", i, diff)
			}
		}
		var fresh *State
		err = s.db.View(t.Context(), func(tx *metadb.Tx) (err error) {
			fresh, err = readState(tx)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fresh.dump(), s.State().dump()); diff != "" {
			t.Fatalf("step %d: %s", i, diff)
		}
	}
}

var errStopped = errors.New("stopped")

func randomWrite(tx *metadb.Tx, rng *rand.Rand, name func(string) string) error {
	switch rng.IntN(7) {
	case 0, 1:
		return tx.PutScopeMap(metadb.ScopeMap{Name: name("map"),
			Actions: []string{"repositories/" + name("repo") + "/content/read"}})
	case 2:
		return tx.DeleteScopeMap(name("map"))
	case 3:
		return tx.PutToken(metadb.Token{Name: name("token"), ScopeMap: name("map"), Status: "enabled"})
	case 4:
		return tx.DeleteToken(name("token"))
	case 5:
		row, err := tx.ConnectedRegistry(name("Ship"))
		if errors.Is(err, metadb.ErrNotFound) {
			row, err = metadb.ConnectedRegistry{Name: name("Ship")}, nil
		}
		if err != nil {
			return err
		}
		row.Parent, row.SyncToken = "", name("token")
		if rng.IntN(2) == 0 {
			row.Parent = name("ship")
		}
		return PutSpec(tx, row, Spec{Spec: wire.Spec{ClientTokens: []string{name("token")}, KeepLast: rng.IntN(3)}})
	}
	if rng.IntN(2) == 0 {
		return tx.SetActivation(name("Ship"), name("instance"))
	}
	return tx.DeleteConnectedRegistry(name("Ship"))
}

func TestWriteWakesOnlyAffectedRegistries(t *testing.T) {
	s := newService(t, "")
	put := func(registry, parent, token string) {
		t.Helper()
		s.mustChange(t, func(tx *metadb.Tx) error {
			return PutSpec(tx, metadb.ConnectedRegistry{Name: registry, Parent: parent, SyncToken: token}, Spec{})
		})
	}
	s.mustChange(t, func(tx *metadb.Tx) error {
		return errors.Join(
			tx.PutScopeMap(metadb.ScopeMap{Name: "m"}),
			tx.PutToken(metadb.Token{Name: "a", Status: "enabled"}),
			tx.PutToken(metadb.Token{Name: "b", ScopeMap: "m", Status: "enabled"}),
		)
	})
	put("Ship1", "", "a")
	put("Ship2", "", "x")
	put("Cabin", "Ship2", "b")
	ship1, ship2 := s.Changed("ship1"), s.Changed("SHIP2")
	at1, at2 := s.ChangedAt("ship1"), s.ChangedAt("ship2")
	s.mustChange(t, func(tx *metadb.Tx) error { // the sync token of the cabin, which is below ship2
		return tx.PutScopeMap(metadb.ScopeMap{Name: "m", Actions: []string{"repositories/a/content/read"}})
	})
	select {
	case <-ship1:
		t.Error("ship1 was woken, and is not affected")
	default:
	}
	select {
	case <-ship2:
	default:
		t.Error("ship2 was not woken")
	}
	if s.ChangedAt("ship1") != at1 || s.ChangedAt("ship2") <= at2 {
		t.Errorf("the versions are %d and %d; they were %d and %d", s.ChangedAt("ship1"), s.ChangedAt("ship2"), at1,
			at2)
	}
}

// TestWritesOfAnotherProcessAreRead writes without the service, as another process on the same
// database does.
func TestWritesOfAnotherProcessAreRead(t *testing.T) {
	s := newService(t, "")
	err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
		if _, err := tx.AdvanceControl(); err != nil {
			return err
		}
		return tx.PutToken(metadb.Token{Name: "theirs", Status: "enabled"})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CatchUp(t.Context(), s.State().Version()+1); err != nil || s.State().Token("theirs") == nil {
		t.Errorf("CatchUp = %v; the token that another process wrote is not in the state", err)
	}
	err = s.db.Update(t.Context(), func(tx *metadb.Tx) error {
		_, err := tx.AdvanceControl()
		return errors.Join(err, tx.DeleteToken("theirs"))
	})
	if err != nil {
		t.Fatal(err)
	}
	s.mustChange(t, func(tx *metadb.Tx) error { return tx.PutToken(metadb.Token{Name: "ours", Status: "enabled"}) })
	if s.State().Token("theirs") != nil || s.State().Token("ours") == nil {
		t.Error("the state lacks a write of one of the processes")
	}
}

func (s *Service) mustChange(t *testing.T, fn func(*metadb.Tx) error) {
	t.Helper()
	if err := s.Change(context.WithoutCancel(t.Context()), fn); err != nil {
		t.Fatal(err)
	}
}

// If it forgot them, the next write of another process would come after too many changes, and the whole control
// plane would be read again.
func TestServiceRemembersChangesOfOtherKinds(t *testing.T) {
	s := newService(t, "")
	s.db.Share()
	f, err := s.db.Follow(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f.Apply(s.Follow)
	before := s.State()
	for n := range int64(3) {
		err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
			tx.Changed(metadb.ReportTopic, "ship1")
			return nil
		})
		if err == nil {
			err = f.CatchUp(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		if got := s.followed.Load(); got != n+1 {
			t.Errorf("it followed up to change %d, want %d", got, n+1)
		}
	}
	if s.State() != before {
		t.Error("changes of other kinds make a new state")
	}
}
