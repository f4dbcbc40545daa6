package events

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/wire"
)

// newService returns a service that sends every event up, if it is a connected registry.
func newService(t testing.TB, registry string) *Service {
	t.Helper()
	s, err := New(t.Context(), Options{
		DB: dbtest.SQLite(t), Registry: registry, Notifications: func() []string { return []string{"*:*"} },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// receive stores a batch as a parent does.
func (s *Service) receive(t *testing.T, b Batch) wire.Stored {
	t.Helper()
	err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
		for _, e := range b.Events {
			row, ok := FromWire(e, e.Registry, s.now())
			if !ok {
				return fmt.Errorf("not valid: %+v", e)
			}
			if err := s.Receive(tx, row); err != nil {
				return err
			}
		}
		for _, e := range b.Audit {
			row, ok := AuditFromWire(e, e.Registry, s.now())
			if !ok {
				return fmt.Errorf("not valid: %+v", e)
			}
			if err := tx.AddAuditOf(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return wire.Stored{Events: len(b.Events), Audit: len(b.Audit)}
}

// tags returns the tags of the events that an instance keeps, in the order of their arrival.
func (s *Service) tags(t *testing.T) (tags []string) {
	t.Helper()
	all, err := metadb.Read(t.Context(), s.db, func(tx *metadb.Tx) ([]metadb.Event, error) {
		return tx.EventsAfter(0, false, metadb.NoLimit)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range all {
		tags = append(tags, e.Tag)
	}
	return tags
}

// TestEventsArriveOnceAndInOrderOverBadLinks sends events over two links that lose requests and
// answers.
func TestEventsArriveOnceAndInOrderOverBadLinks(t *testing.T) {
	leaf, middle, root := newService(t, "ship2"), newService(t, "ship1"), newService(t, "")
	random := rand.New(rand.NewPCG(1, 2))
	send := func(from, to *Service) {
		b, err := from.Outgoing(t.Context())
		if err != nil || random.IntN(3) == 0 {
			return // the request was lost
		}
		stored := to.receive(t, b)
		if random.IntN(3) == 0 {
			return // the answer was lost
		}
		if stored.Events > 0 && random.IntN(3) == 0 {
			stored.Events = 1 + random.IntN(stored.Events) // the parent took a part
		}
		if err := from.Forwarded(t.Context(), b, stored); err != nil {
			t.Fatal(err)
		}
	}
	const count = 350
	var want []string
	for i := range count {
		tag := "v" + strconv.Itoa(i)
		want = append(want, tag)
		leaf.complete(t, "app", tag)
		if i%20 == 0 {
			send(leaf, middle)
			send(middle, root)
		}
	}
	for range 100 {
		send(leaf, middle)
		send(middle, root)
	}
	if got := root.tags(t); !slices.Equal(got, want) {
		t.Errorf("%d events arrived: %v", len(got), got)
	}
	for _, s := range []*Service{leaf, middle} {
		if b, err := s.Outgoing(t.Context()); err != nil || !b.Empty() {
			t.Errorf("%d events still wait, %v", len(b.Events), err)
		}
	}
}

func TestOldestEventsAreDroppedAndCounted(t *testing.T) {
	s := newService(t, "ship1")
	s.keep = 10
	for i := range 30 {
		s.complete(t, "app", "v"+strconv.Itoa(i))
	}
	b, err := s.Outgoing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	last, dropped := "", int64(0)
	for _, e := range b.Events {
		if e.Type == Dropped {
			dropped = max(dropped, e.Size)
		} else {
			last = e.Tag
		}
	}
	lost, err := s.Lost(t.Context())
	if err != nil || len(b.Events) > 10 || last != "v29" || dropped < 18 || lost < dropped {
		t.Errorf("%d events wait, the last is %s, %d dropped, %d lost, %v", len(b.Events), last, dropped, lost, err)
	}
}

func TestOwnAuditIsSentOnlyIfItIsShipped(t *testing.T) {
	leaf, middle, root := newService(t, "ship2"), newService(t, "ship1"), newService(t, "")
	leaf.options.AuditShipped = func() bool { return true }
	for _, s := range []*Service{leaf, middle} {
		err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
			return tx.AddAudit(metadb.AuditEntry{At: time.Now(), Actor: "admin", Action: "now", Object: "sync"}, 100)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // the answers are lost
		for _, link := range [][2]*Service{{leaf, middle}, {middle, root}} {
			b, err := link[0].Outgoing(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			link[1].receive(t, b)
		}
	}
	all, err := metadb.Read(t.Context(), root.db, func(tx *metadb.Tx) ([]metadb.AuditEntry, error) {
		return tx.Audit(metadb.AuditQuery{Limit: 10})
	})
	if err != nil || len(all) != 1 || all[0].Registry != "ship2" || all[0].Object != "sync" {
		t.Errorf("%+v %v", all, err)
	}
}

func TestTimesFarAheadCountAsNow(t *testing.T) {
	now := time.Now()
	e := wire.Event{ID: "1-1", Type: Push, Repository: "a", Tag: "b", At: now.AddDate(9, 0, 0)}
	row, ok := FromWire(e, "ship1", now)
	if !ok || !row.At.Equal(now) {
		t.Errorf("%v %v", row.At, ok)
	}
}

func FuzzFromWire(f *testing.F) {
	f.Add([]byte(`{"id":"1-2","registry":"ship1","type":"push","repository":"app","tag":"v1"}`))
	f.Add([]byte(`{"id":"../x","type":"PUSH","size":-1,"detail":"\u001b[2J"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var e wire.Event
		var a wire.AuditEntry
		now := time.Unix(1e9, 0)
		if json.Unmarshal(text, &e) == nil {
			if row, ok := FromWire(e, "ship1", now); ok {
				if len(row.Detail) > maxText || len(row.Reason) > maxCode || row.At.After(now.Add(maxAhead)) {
					t.Errorf("%+v", row)
				}
				cloudEvent(row, "")
			}
		}
		if json.Unmarshal(text, &a) == nil {
			if row, ok := AuditFromWire(a, "ship1", now); ok && len(row.Object) > maxObject {
				t.Errorf("%+v", row)
			}
		}
	})
}
