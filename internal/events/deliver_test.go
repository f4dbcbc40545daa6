package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// A fakeReceiver records what it gets, and fails as it is told.
type fakeReceiver struct {
	mu   sync.Mutex
	got  []string // subjects
	fail func(subject string) error
}

func (f *fakeReceiver) Deliver(ctx context.Context, _ int64, event json.RawMessage) (int, error) {
	var e CloudEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return 0, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.got = append(f.got, e.Subject)
	if f.fail != nil {
		if err := f.fail(e.Subject); err != nil {
			return 500, err
		}
	}
	return 200, nil
}

func (f *fakeReceiver) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.got)
}

// serve runs a service with two local subscribers, and calls test. Its clock is that of the bubble.
func serve(t *testing.T, webhook, hook Receiver, test func(t *testing.T, s *Service)) {
	synctest.Test(t, func(t *testing.T) {
		o := Options{DB: dbtest.SQLite(t), Registry: "ship1"}
		for name, r := range map[string]Receiver{LocalWebhook: webhook, LocalHook: hook} {
			if r != nil {
				o.Local = append(o.Local, Local{Name: name, Receiver: r})
			}
		}
		s, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		test(t, s)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// add records that an image is complete.
func (s *Service) complete(t *testing.T, repository, tag string) {
	t.Helper()
	err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
		return s.Append(tx, metadb.Event{Type: Complete, Repository: repository, Tag: tag})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// deliveries returns how many deliveries are in a state.
func (s *Service) deliveries(t *testing.T, name, state string) int64 {
	t.Helper()
	n, err := metadb.Read(t.Context(), s.db, func(tx *metadb.Tx) (int64, error) {
		return tx.CountDeliveries(name, state)
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRefusedEventHoldsUpOnlyItsRepository(t *testing.T) {
	refuse := true
	r := &fakeReceiver{}
	r.fail = func(subject string) error {
		if subject == "a:1" && refuse {
			return &Refusal{400, "no"}
		}
		return nil
	}
	serve(t, r, nil, func(t *testing.T, s *Service) {
		for _, tag := range []string{"1", "2"} {
			s.complete(t, "a", tag)
			s.complete(t, "b", tag)
		}
		synctest.Wait()
		if got := r.all(); slices.Contains(got, "a:2") || !slices.Contains(got, "b:2") {
			t.Errorf("delivered %v", got)
		}
		r.mu.Lock()
		refuse = false
		r.mu.Unlock()
		time.Sleep(webhookPolicy.longest)
		synctest.Wait()
		if got := r.all(); got[len(got)-2] != "a:1" || got[len(got)-1] != "a:2" {
			t.Errorf("delivered %v", got)
		}
	})
}

func TestDeadEndpointStopsNoOther(t *testing.T) {
	dead := &fakeReceiver{fail: func(string) error { return errors.New("connection refused") }}
	hook := &fakeReceiver{}
	serve(t, dead, hook, func(t *testing.T, s *Service) {
		s.complete(t, "a", "1")
		synctest.Wait()
		if got := hook.all(); !slices.Equal(got, []string{"a:1"}) {
			t.Errorf("the hook got %v", got)
		}
		time.Sleep(webhookPolicy.age / 2)
		synctest.Wait()
		if n := len(dead.all()); n < 20 || n > 200 || s.deliveries(t, LocalWebhook, metadb.Dead) != 0 {
			t.Errorf("tried %d times", n)
		}
		time.Sleep(webhookPolicy.age)
		synctest.Wait()
		if n := s.deliveries(t, LocalWebhook, metadb.Dead); n != 1 {
			t.Errorf("%d deliveries were given up", n)
		}
		tries := len(dead.all())
		dead.mu.Lock()
		dead.fail = nil
		dead.mu.Unlock()
		err := s.db.Update(t.Context(), func(tx *metadb.Tx) error {
			_, err := tx.RetryDeliveries(LocalWebhook, 0, s.now())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		s.Wake(LocalWebhook)
		synctest.Wait()
		if len(dead.all()) != tries+1 || s.deliveries(t, LocalWebhook, metadb.Delivered) != 1 {
			t.Errorf("after the retry: %v", dead.all())
		}
	})
}

func TestFailedHookIsRecordedAndTheNextRuns(t *testing.T) {
	hook := &fakeReceiver{fail: func(subject string) error {
		if subject == "a:1" {
			return errors.New("exit status 1")
		}
		return nil
	}}
	serve(t, nil, hook, func(t *testing.T, s *Service) {
		s.complete(t, "a", "1")
		s.complete(t, "b", "1")
		synctest.Wait()
		if got := hook.all(); !slices.Equal(got, []string{"a:1"}) {
			t.Errorf("at first it ran for %v", got)
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := hook.all(); !slices.Equal(got, []string{"a:1", "a:1", "a:1", "b:1"}) {
			t.Errorf("it ran for %v", got)
		}
		if n := s.deliveries(t, LocalHook, metadb.Dead); n != 1 {
			t.Errorf("%d events are recorded as failed", n)
		}
	})
}

func TestQueueOfAWebhookIsBounded(t *testing.T) {
	dead := &fakeReceiver{fail: func(string) error { return errors.New("connection refused") }}
	serve(t, dead, nil, func(t *testing.T, s *Service) {
		s.maxWaiting = 10
		for i := range 30 {
			s.complete(t, "a", fmt.Sprint("v", i))
		}
		synctest.Wait()
		dropped, err := metadb.Read(t.Context(), s.db, func(tx *metadb.Tx) (int64, error) {
			return DroppedDeliveries(tx, LocalWebhook)
		})
		if n := s.deliveries(t, LocalWebhook, metadb.Waiting); n != 10 || dropped != 20 || err != nil {
			t.Errorf("%d wait, %d were dropped, %v", n, dropped, err)
		}
	})
}

func TestEventsWaitForARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		db := dbtest.SQLite(t)
		r := &fakeReceiver{}
		o := Options{DB: db, Registry: "ship1", Local: []Local{{Name: LocalHook, Receiver: r}}}
		stopped, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		stopped.complete(t, "a", "1") // it does not run
		again, err := New(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- again.Run(ctx) }()
		synctest.Wait()
		if got := r.all(); !slices.Equal(got, []string{"a:1"}) {
			t.Errorf("delivered %v", got)
		}
		cancel()
		<-done
	})
}
