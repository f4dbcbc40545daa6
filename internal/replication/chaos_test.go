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

// chaosSeeds is how many seeds run; $CHAOS_SEEDS is another number, as in .ci/run.
const chaosSeeds = 10

// errStopped ends a sync whose site is stopped.
var errStopped = errors.New("the site stops")

// Whatever happens on the way and at both ends, a site that is left in peace
// at last has what its parent has, byte for byte, and nobody who pulled from it
// meanwhile saw an image that was not whole.
func TestChaosEndsInSync(t *testing.T) {
	seeds := chaosSeeds
	if text := os.Getenv("CHAOS_SEEDS"); text != "" {
		var err error
		if seeds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	} else if testing.Short() {
		seeds /= 2
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { chaos(t, uint64(seed)) })
		})
	}
}

func chaos(t *testing.T, seed uint64) {
	w := &randomParent{parent: newSeededParent(t, seed), rng: rand.New(rand.NewPCG(seed, 7)), maxLayer: 200 << 10}
	moods, liar := &randomRefusals{rng: rand.New(rand.NewPCG(seed, 8))}, newWrongAnswers(seed, allWrongAnswers()...)
	w.refuse, w.intercept = moods.refuse, liar.answer
	w.hasPlatforms, w.hasFilters = seed%4 == 3, seed%3 == 2
	if seed%5 == 4 {
		w.redirect()
	}
	site := &restartableReplica{t: t, dir: t.TempDir(), source: w.client(), children: allChildren}
	if w.hasPlatforms {
		site.children = heldChildren
	}
	site.start()
	defer site.stop()
	w.changeOften(6)
	site.follow()
	if w.hasPlatforms || w.hasFilters {
		w.changeSubscription()
		site.follow()
	}
	for range 4 {
		changed := (w.hasPlatforms || w.hasFilters) && w.rng.IntN(2) == 0
		if changed {
			w.changeSubscription() // of which the site hears later
		}
		weather := randomFaults(w.rng)
		mood, how := w.rng.IntN(3), w.rng.IntN(6)
		if how < 2 {
			w.pause()
			w.push("app/0", "v0") // for there to be something to be killed in the midst of
			site.follow()
			weather.Rate = 5<<10 + w.rng.Int64N(50<<10)
		}
		moods.set(mood)
		liar.set(4 * w.rng.IntN(3))
		w.network.Set(weather)
		window := time.Duration(w.rng.IntN(30_000)) * time.Millisecond
		switch how {
		case 0, 1:
			site.syncAndKillAfter(randomDelay(w.rng))
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
		liar.set(0)
		w.network.Set(faultnet.Faults{})
		w.changeOften(2)
		if changed {
			site.follow()
		}
		if w.rng.IntN(4) > 0 {
			site.follow()
		} else {
			site.relist()
		}
	}
	// What is left of the bad weather, which may have let items fail for now.
	site.ClearQuarantine()
	site.syncFor(time.Hour)
	site.sync()
	assertInSync(t, w.parent, site.Storage)
}

// steps changes so many things, one after the other.
func (w *randomParent) changeOften(n int) {
	for range n {
		w.pause()
		w.changeSomething()
	}
}

// tick lets a moment pass, so that it is known which of two tags is newer.
func (w *randomParent) pause() { time.Sleep(10 * time.Millisecond) }

// moment is a time after which a site is killed: as often within a few round
// trips as within many.
func randomDelay(rng *rand.Rand) time.Duration {
	return time.Duration(100+rng.IntN(100<<rng.IntN(8))) * time.Millisecond
}

// setReach lets other content be for the site.
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

// badWeather is what a link may do.
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

// moods are a parent's: it may refuse what it is asked.
type randomRefusals struct {
	mu    sync.Mutex
	rng   *rand.Rand
	oneIn int // 0 is well; else one request of so many is refused
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
