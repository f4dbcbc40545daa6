package replication_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// A restartableReplica can be stopped or killed, and started again on the same directory. While
// it runs, clients pull from it, and garbage is collected.
type restartableReplica struct {
	*replica
	t          *testing.T
	dir        string
	source     *gateway.Client
	children   childrenOf // that an index must have
	cancel     context.CancelFunc
	background sync.WaitGroup
}

func (s *restartableReplica) start() {
	st, db, err := storagetest.Open(s.t.Context(), s.dir, storage.Options{Grace: grace})
	if err != nil {
		s.t.Fatal(err)
	}
	s.replica = &replica{
		Storage: st, Engine: replication.New(replication.Options{Storage: st, DB: db, ChunkSize: 32 << 10}), db: db,
		source: s.source, t: s.t,
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	pull := func(checked map[digest.Digest]bool) error {
		_, err := readContentWith(context.Background(), st, checked, s.children)
		return err
	}
	changed := func() <-chan struct{} {
		changed, _ := st.Watch("all", func(string) bool { return true })
		return changed
	}
	s.repeat(ctx, 300*time.Millisecond, never, func() error { return pull(map[digest.Digest]bool{}) })
	checked := map[digest.Digest]bool{} // this client pulls after every change, and reads each blob once
	s.repeat(ctx, time.Hour, changed, func() error { return pull(checked) })
	s.repeat(ctx, time.Second, never, func() error {
		_, err := st.Collect(context.Background())
		return err
	})
}

func never() <-chan struct{} { return nil }

// repeat calls do now, every d, and whenever the channel of changed is closed, until ctx ends.
func (s *restartableReplica) repeat(
	ctx context.Context, d time.Duration, changed func() <-chan struct{}, do func() error,
) {
	s.background.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			change := changed()
			if err := do(); err != nil {
				s.t.Errorf("a client of the replica: %v", err)
				return
			}
			select {
			case <-tick.C:
			case <-change:
			case <-ctx.Done():
				return
			}
		}
	})
}

// stop stops the replica cleanly.
func (s *restartableReplica) stop() {
	s.cancel()
	s.background.Wait()
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

// syncFor syncs in a window of length d. Items may fail.
func (s *restartableReplica) syncFor(d time.Duration) {
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, errStopped)
	defer cancel()
	_, err := s.Sync(ctx, s.source)
	s.allowEnd(err, errStopped)
}

// allowEnd fails the test unless a Sync ended without error, with ended, or because the parent
// refused requests.
func (s *restartableReplica) allowEnd(err, ended error) {
	s.t.Helper()
	var answer *gateway.AnswerError
	if err != nil && !errors.Is(err, ended) && !errors.As(err, &answer) && !errors.Is(err, gateway.ErrUnauthorized) {
		s.t.Errorf("Sync: %v", err)
	}
}
