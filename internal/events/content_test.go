package events

import (
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// observed returns content whose changes a service records that sends every event up.
func observed(t testing.TB) (*Service, storagetest.Content) {
	t.Helper()
	s := newService(t, "ship1")
	return s, storagetest.New(t, storage.Options{DB: s.db, Observe: s.ContentChanged})
}

// news returns the events since the last call.
func (s *Service) news(t testing.TB, after *int64) (all []string) {
	t.Helper()
	rows, err := metadb.Read(t.Context(), s.db, func(tx *metadb.Tx) ([]metadb.Event, error) {
		return tx.EventsAfter(*after, false, metadb.NoLimit)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rows {
		*after = e.ID
		text := e.Type + " " + e.Repository
		if e.Tag != "" {
			text += ":" + e.Tag
		} else {
			text += "@"
		}
		if e.Type == Push && (e.MediaType == "" || e.Size == 0) {
			t.Errorf("%s has no media type or no size", text)
		}
		all = append(all, text)
	}
	return all
}

func TestEveryChangeOfContentIsAnEvent(t *testing.T) {
	s, c := observed(t)
	var after int64
	expect := func(change string, want ...string) {
		t.Helper()
		if got := s.news(t, &after); !slices.Equal(got, want) {
			t.Errorf("%s: %q", change, got)
		}
	}
	first := c.Push("app", c.Image("app", "{}", []byte("1")), "v1", "latest")
	expect("a push", "push app:v1", "push app:latest")
	c.Push("app", c.Image("app", "{}", []byte("1")), "v1")
	expect("the same push again")
	second := c.Push("app", c.Image("app", "{}", []byte("2")))
	expect("a push without a tag", "push app@")
	if err := c.Storage.SetTag(t.Context(), "app", "latest", second.Digest); err != nil {
		t.Fatal(err)
	}
	expect("a tag that moves", "push app:latest")
	if err := c.Storage.DeleteTag(t.Context(), "app", "latest"); err != nil {
		t.Fatal(err)
	}
	expect("a deleted tag", "delete app:latest")
	if err := c.Storage.DeleteManifest(t.Context(), "app", first.Digest); err != nil {
		t.Fatal(err)
	}
	expect("a deleted manifest", "delete app:v1", "delete app@")
	if err := c.Storage.DeleteRepository(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	expect("a deleted repository", "delete app@")
	if err := c.Storage.DeleteTag(t.Context(), "app", "v1"); err == nil {
		t.Fatal("deleted twice")
	}
	expect("a refused deletion")
}

func TestFirstPullIsRecordedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := observed(t)
		m := c.Push("app", c.Image("app", "{}", []byte("1")), "v1")
		index := c.Push("app", storagetest.Index(c.Push("app", c.Image("app", "{}", []byte("2")))), "v2")
		child := c.Push("app", c.Image("app", "{}", []byte("2")))
		var after int64
		s.news(t, &after)
		pull := func(s *Service, digests ...digest.Digest) {
			for _, d := range digests {
				s.Pulled("app", d)
			}
			for len(s.pulls.queue) > 0 {
				if err := s.recordPull(t.Context(), <-s.pulls.queue); err != nil {
					t.Fatal(err)
				}
			}
		}
		pull(s, m.Digest, m.Digest, index.Digest, child.Digest)
		if got := s.news(t, &after); !slices.Equal(got, []string{"first_pull app:v1", "first_pull app:v2"}) {
			t.Errorf("%q", got)
		}
		again, err := New(t.Context(), s.options) // a restart forgets what is in memory
		if err != nil {
			t.Fatal(err)
		}
		pull(again, m.Digest, index.Digest, child.Digest)
		if got := s.news(t, &after); len(got) > 0 {
			t.Errorf("after a restart: %q", got)
		}
	})
}

func TestPullsBeforeAnybodyWantsThemAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var patterns atomic.Pointer[[]string]
		patterns.Store(new([]string))
		db := dbtest.SQLite(t)
		o := Options{DB: db, Registry: "ship1", Notifications: func() []string { return *patterns.Load() }}
		s, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c := storagetest.New(t, storage.Options{DB: db})
		m := c.Push("app", c.Image("app", "{}", []byte("1")), "v1")
		go s.RecordPulls(t.Context())
		s.Pulled("app", m.Digest)
		synctest.Wait()
		patterns.Store(&[]string{"*:first_pull"})
		time.Sleep(2 * pullCheck)
		synctest.Wait()
		s.Pulled("app", m.Digest)
		synctest.Wait()
		var after int64
		if got := s.news(t, &after); !slices.Equal(got, []string{"first_pull app:v1"}) {
			t.Errorf("%q", got)
		}
	})
}

// BenchmarkPulled measures what a pull of an image costs that was pulled before.
func BenchmarkPulled(b *testing.B) {
	s := newService(b, "ship1")
	var all []digest.Digest
	for i := range 100 {
		d := digest.FromString(fmt.Sprint(i))
		all = append(all, d)
		s.Pulled("team/app", d)
		<-s.pulls.queue
	}
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for i := 0; p.Next(); i++ {
			s.Pulled("team/app", all[i%len(all)])
		}
	})
}
