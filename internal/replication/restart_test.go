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

// A restartable is a replica that stops, or is killed, and starts again on what
// is in its directory, and from which somebody pulls, and collects garbage, all the while.
type restartableReplica struct {
	*replica
	t          *testing.T
	dir        string
	source     *gateway.Client
	children   childrenOf // of an index: what has to be here
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
	look := func(checked map[digest.Digest]bool) error {
		_, err := readContentWith(context.Background(), st, checked, s.children)
		return err
	}
	changed := func() <-chan struct{} {
		changed, _ := st.Watch("all", func(string) bool { return true })
		return changed
	}
	s.repeat(ctx, 300*time.Millisecond, never, func() error { return look(map[digest.Digest]bool{}) })
	seen := map[digest.Digest]bool{} // by whom nothing escapes, and who need not read a blob twice
	s.repeat(ctx, time.Hour, changed, func() error { return look(seen) })
	s.repeat(ctx, time.Second, never, func() error {
		_, err := st.Collect(context.Background())
		return err
	})
}

func never() <-chan struct{} { return nil }

// every does something now, then now and then and whenever changed says so,
// until ctx ends.
func (s *restartableReplica) repeat(ctx context.Context, d time.Duration, changed func() <-chan struct{}, do func() error) {
	s.background.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			change := changed()
			if err := do(); err != nil {
				s.t.Errorf("a user of the site: %v", err)
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

// stop ends the site as a machine's shutdown does.
func (s *restartableReplica) stop() {
	s.cancel()
	s.background.Wait()
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

// syncFor lets a window be open for d. What fails in it is for the next.
func (s *restartableReplica) syncFor(d time.Duration) {
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, errStopped)
	defer cancel()
	_, err := s.Sync(ctx, s.source)
	s.allowEnd(err, errStopped)
}

// tolerate fails the test where a Sync ended for another reason than that the
// site did, or the parent's mood.
func (s *restartableReplica) allowEnd(err, ended error) {
	s.t.Helper()
	var answer *gateway.AnswerError
	if err != nil && !errors.Is(err, ended) && !errors.As(err, &answer) && !errors.Is(err, gateway.ErrUnauthorized) {
		s.t.Errorf("Sync: %v", err)
	}
}
