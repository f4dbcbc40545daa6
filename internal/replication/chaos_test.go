package replication_test

import (
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

	"ferry/internal/faultnet"
)

// errStopped ends the Sync of a replica that is stopped.
var errStopped = errors.New("the replica stops")

// Links fail, parents and replicas restart, answers are wrong. In the end, the replica has the
// parent's content, byte for byte, and no client has pulled an incomplete image.
func TestChaosEndsInSync(t *testing.T) {
	for seed := range randomSeeds(t, 5) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			on := newBase(t)
			synctest.Test(t, func(t *testing.T) { chaos(t, uint64(seed), on) })
		})
	}
}

// randomSeeds returns how many random histories a test tries: usual, or $CHAOS_SEEDS.
func randomSeeds(t *testing.T, usual int) int {
	t.Helper()
	text := os.Getenv("CHAOS_SEEDS")
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func chaos(t *testing.T, seed uint64, on *base) {
	w := &randomParent{
		parent: newSeededParent(t, seed, on), rng: rand.New(rand.NewPCG(seed, 7)), maxLayer: 200 << 10,
	}
	refusals, wrong := &randomRefusals{rng: rand.New(rand.NewPCG(seed, 8))}, newWrongAnswers(seed, allWrongAnswers()...)
	w.respond, w.intercept = refusals.refuse, wrong.answer
	w.hasPlatforms, w.hasFilters = seed%4 == 3, seed%3 == 2
	if seed%5 == 4 {
		w.redirect()
	}
	r := &restartableReplica{t: t, dir: t.TempDir(), source: w.client(), children: allChildren}
	if w.hasPlatforms {
		r.children = heldChildren
	}
	r.start()
	defer r.stop()
	w.changeOften(6)
	r.follow()
	if w.hasPlatforms || w.hasFilters {
		w.changeSubscription()
		r.follow()
	}
	for range 4 {
		changed := (w.hasPlatforms || w.hasFilters) && w.rng.IntN(2) == 0
		if changed {
			w.changeSubscription() // the replica learns of it later
		}
		faults := randomFaults(w.rng)
		refuse, how := w.rng.IntN(3), w.rng.IntN(6)
		if how < 2 {
			w.pause()
			w.push("app/0", "v0") // so that the kill interrupts something
			r.follow()
			faults.Rate = 5<<10 + w.rng.Int64N(50<<10)
		}
		refusals.set(refuse)
		wrong.set(4 * w.rng.IntN(3))
		w.network.Set(faults)
		window := time.Duration(w.rng.IntN(30_000)) * time.Millisecond
		switch how {
		case 0, 1:
			r.syncAndKillAfter(randomDelay(w.rng))
		case 2:
			r.syncFor(window)
			r.stop()
			r.start()
		case 3:
			var g sync.WaitGroup
			g.Go(func() {
				time.Sleep(window / 2)
				w.restart(window / 8)
			})
			r.syncFor(window)
			g.Wait()
		default:
			r.syncFor(window)
		}
		refusals.set(0)
		wrong.set(0)
		w.network.Set(faultnet.Faults{})
		w.changeOften(2)
		if changed {
			r.follow()
		}
		if w.rng.IntN(4) > 0 {
			r.follow()
		} else {
			r.relist()
		}
	}
	// Try items again that failed because of the faults.
	r.ClearQuarantine()
	r.syncFor(time.Hour)
	r.sync()
	assertInSync(t, w.parent, r.Storage)
}

// changeOften makes n random changes.
func (w *randomParent) changeOften(n int) {
	for range n {
		w.pause()
		w.changeSomething()
	}
}

// pause lets some time pass, so that one of two tags is newer.
func (w *randomParent) pause() { time.Sleep(10 * time.Millisecond) }

// randomDelay returns the time until a kill: as often a few round trips as many.
func randomDelay(rng *rand.Rand) time.Duration {
	return time.Duration(100+rng.IntN(100<<rng.IntN(8))) * time.Millisecond
}

// changeSubscription subscribes the replica to other content.
func (w *randomParent) changeSubscription() {
	var r childSubscription
	if w.hasPlatforms {
		all := [][]string{nil, {"linux/amd64"}, {"linux/amd64", "linux/arm64"}, {"windows/amd64"}, {"linux/s390x"}}
		r.platforms = all[w.rng.IntN(len(all))]
	}
	if w.hasFilters {
		all := [][]string{nil, {"v1"}, {"v[01]"}, {"/^v[12]$/"}, {"v2", "v0"}}
		r.filters, r.keepLast = all[w.rng.IntN(len(all))], w.rng.IntN(3)
	}
	w.subscribed.Store(&r)
}

// randomFaults returns faults of the link.
func randomFaults(rng *rand.Rand) faultnet.Faults {
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

// randomRefusals make a parent refuse some requests.
type randomRefusals struct {
	mu    sync.Mutex
	rng   *rand.Rand
	oneIn int // one of so many requests is refused; 0 is none
}

func (m *randomRefusals) set(bad int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.oneIn = bad * 4
}

func (m *randomRefusals) refuse(w http.ResponseWriter, r *http.Request) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.oneIn == 0 || m.rng.IntN(m.oneIn) > 0 {
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
