package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/faultnet"
	"ferry/internal/gateway"
	"ferry/internal/replication"
	"ferry/internal/storage"
)

// chaosSeeds is how many seeds run; $CHAOS_SEEDS is another number.
const chaosSeeds = 200

// errStopped ends a sync whose site is stopped.
var errStopped = errors.New("the site stops")

// Whatever happens on the way and at both ends, a site that is left in peace
// at last has what its parent has, byte for byte, and nobody who pulled from it
// meanwhile saw an image that was not whole.
func TestChaosEndsInStep(t *testing.T) {
	seeds := chaosSeeds
	if text := os.Getenv("CHAOS_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		seeds /= 20
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { chaos(t, uint64(seed)) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	w := &world{parent: newPipeParent(t), rng: rand.New(rand.NewPCG(seed, 7)), most: 200 << 10}
	moods := &moods{rng: rand.New(rand.NewPCG(seed, 8))}
	w.refuse = moods.refuse
	w.placed = seed%4 == 3
	site := &restartable{t: t, dir: t.TempDir(), source: w.client(), below: everyChild}
	if w.placed {
		site.below = heldChildren
	}
	site.start()
	defer site.stop()
	for range 6 {
		w.step()
	}
	site.follow()
	if w.placed {
		w.setPlatforms()
		site.learn()
	}
	for range 4 {
		changed := w.placed && w.rng.IntN(2) == 0
		if changed {
			w.setPlatforms() // of which the site hears later
		}
		weather := badWeather(w.rng)
		mood, how := w.rng.IntN(3), w.rng.IntN(6)
		if how < 2 {
			w.push("app/0", "v0") // for there to be something to be killed in the midst of
			site.follow()
			weather.Rate = 5<<10 + w.rng.Int64N(50<<10)
		}
		moods.set(mood)
		w.network.Set(weather)
		window := time.Duration(w.rng.IntN(30_000)) * time.Millisecond
		switch how {
		case 0, 1:
			site.killIn(moment(w.rng))
		case 2:
			site.syncFor(window)
			site.stop()
			site.start()
		case 3:
			var g sync.WaitGroup
			g.Go(func() {
				time.Sleep(window / 2)
				w.restart(window / 8)
			})
			site.syncFor(window)
			g.Wait()
		default:
			site.syncFor(window)
		}
		moods.set(0)
		w.network.Set(faultnet.Faults{})
		for range 2 {
			w.step()
		}
		if changed {
			site.learn()
		}
		site.follow()
	}
	// What is left of the bad weather, which may have let items fail for now.
	site.syncFor(time.Hour)
	// A tag that moved leaves no word of its old image, which the parent may
	// still have: only a snapshot tells.
	if err := takeStock(t.Context(), site.Engine, site.source); err != nil {
		t.Fatal(err)
	}
	site.sync()
	same(t, w.parent, site.Storage)
}

// moment is a time after which a site is killed: as often within a few round
// trips as within many.
func moment(rng *rand.Rand) time.Duration {
	return time.Duration(100+rng.IntN(100<<rng.IntN(8))) * time.Millisecond
}

// setPlatforms sends the site images for other platforms.
func (w *world) setPlatforms() {
	all := [][]string{nil, {"linux/amd64"}, {"linux/amd64", "linux/arm64"}, {"windows/amd64"}, {"linux/s390x"}}
	w.platforms.Store(&all[w.rng.IntN(len(all))])
}

// badWeather is what a link may do.
func badWeather(rng *rand.Rand) faultnet.Faults {
	var f faultnet.Faults
	if rng.IntN(2) == 0 {
		f.CutEvery = 20<<10 + rng.Int64N(400<<10)
	}
	if rng.IntN(3) == 0 {
		f.StallEvery = 50<<10 + rng.Int64N(1<<20)
	}
	if rng.IntN(4) == 0 {
		f.CorruptEvery = 100<<10 + rng.Int64N(1<<20)
	}
	if rng.IntN(2) == 0 {
		f.Rate = 10<<10 + rng.Int64N(100<<10)
	}
	if rng.IntN(2) == 0 {
		f.Delay = time.Duration(rng.IntN(600)) * time.Millisecond
	}
	return f
}

// moods are a parent's: it may refuse what it is asked.
type moods struct {
	mu  sync.Mutex
	rng *rand.Rand
	bad int // 0 is well; else one request of so many is refused
}

func (m *moods) set(bad int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.bad = bad * 4
}

func (m *moods) refuse(w http.ResponseWriter, r *http.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.bad == 0 || m.rng.IntN(m.bad) > 0 {
		return false
	}
	switch status := []int{401, 429, 500, 502, 503}[m.rng.IntN(5)]; status {
	case 429, 503:
		w.Header().Set("Retry-After", "2")
		fallthrough
	default:
		w.WriteHeader(status)
	}
	return true
}

// A restartable is a replica that stops, or is killed, and starts again on what
// is in its directory, and from which somebody pulls, and collects garbage, all the while.
type restartable struct {
	*replica
	t      *testing.T
	dir    string
	source *gateway.Client
	below  children // of an index: what has to be here
	ended  context.CancelFunc
	busy   sync.WaitGroup
}

func (s *restartable) start() {
	st, db, err := open(s.t.Context(), s.dir, storage.Options{Grace: grace})
	if err != nil {
		s.t.Fatal(err)
	}
	s.replica = &replica{
		Storage: st, Engine: replication.New(replication.Options{Storage: st, DB: db, ChunkSize: 32 << 10}), db: db, source: s.source, t: s.t,
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.ended = cancel
	s.every(ctx, 300*time.Millisecond, func() error {
		_, err := readIndexes(context.Background(), st, map[digest.Digest]bool{}, s.below)
		return err
	})
	s.every(ctx, time.Second, func() error {
		_, err := st.Collect(context.Background())
		return err
	})
}

// every does something now and then, until ctx ends.
func (s *restartable) every(ctx context.Context, d time.Duration, do func() error) {
	s.busy.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				if err := do(); err != nil {
					s.t.Errorf("a user of the site: %v", err)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
}

// stop ends the site as a machine's shutdown does.
func (s *restartable) stop() {
	s.ended()
	s.busy.Wait()
	if err := s.db.Close(); err != nil {
		s.t.Error(err)
	}
}

// learn lets the site know that the parent's platforms for it changed.
func (s *restartable) learn() {
	s.t.Helper()
	if err := takeStock(s.t.Context(), s.Engine, s.source); err != nil {
		s.t.Fatal(err)
	}
	if err := s.Recheck(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// syncFor lets a window be open for d. What fails in it is for the next.
func (s *restartable) syncFor(d time.Duration) {
	ctx, cancel := context.WithTimeoutCause(s.t.Context(), d, errStopped)
	defer cancel()
	_, err := s.Sync(ctx, s.source)
	s.tolerate(err, errStopped)
}

// tolerate fails the test where a Sync ended for another reason than that the
// site did, or the parent's mood.
func (s *restartable) tolerate(err, ended error) {
	s.t.Helper()
	var answer *gateway.AnswerError
	if err != nil && !errors.Is(err, ended) && !errors.As(err, &answer) && !errors.Is(err, gateway.ErrUnauthorized) {
		s.t.Errorf("Sync: %v", err)
	}
}
