package replication_test

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"ferry/internal/replication"
)

// wrongAnswers replace some answers of a parent with others that are well-formed, but
// incomplete or not the requested content.
type wrongAnswers struct {
	kinds []wrongAnswer

	mu    sync.Mutex
	rng   *rand.Rand
	oneIn int // one of so many answers is wrong; 0 is none
}

func newWrongAnswers(seed uint64, kinds ...wrongAnswer) *wrongAnswers {
	return &wrongAnswers{rng: rand.New(rand.NewPCG(seed, 9)), kinds: kinds}
}

func (a *wrongAnswers) set(oneIn int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.oneIn = oneIn
}

// answer answers a request with next, or wrongly.
func (a *wrongAnswers) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if answer, rng := a.draw(strings.HasPrefix(r.URL.Path, "/v2/")); answer != nil {
		answer(exchange{w, r.Clone(r.Context()), next, rng})
		return
	}
	next.ServeHTTP(w, r)
}

// draw returns a random wrong answer and its source of randomness; nil is a right answer.
func (a *wrongAnswers) draw(ofBlob bool) (answer func(exchange), _ *rand.Rand) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.oneIn == 0 || a.rng.IntN(a.oneIn) > 0 {
		return nil, nil
	}
	chosen := a.kinds[a.rng.IntN(len(a.kinds))]
	if chosen.onlyRanges && !ofBlob {
		return nil, nil
	}
	return chosen.answer, rand.New(rand.NewPCG(a.rng.Uint64(), 0))
}

// An exchange is a request and its handler.
type exchange struct {
	w    http.ResponseWriter
	r    *http.Request // a wrong answer may change it
	next http.Handler
	rng  *rand.Rand
}

// A wrongAnswer is a way to answer wrongly.
type wrongAnswer struct {
	name       string
	onlyRanges bool // only for requests for a range of a blob
	mayFail    bool // an item may fail because of it
	answer     func(exchange)
}

// allWrongAnswers returns answers that a faulty proxy, cache or server may give.
func allWrongAnswers() []wrongAnswer {
	return []wrongAnswer{
		{name: "a shorter body with its own length", answer: func(x exchange) {
			x.alterBody(func(body []byte) ([]byte, int) {
				some := x.rng.IntN(len(body))
				return body[:some], some
			})
		}},
		{name: "a shorter body in complete chunks", answer: func(x exchange) {
			x.alterBody(func(body []byte) ([]byte, int) { return body[:x.rng.IntN(len(body))], -1 })
		}},
		{name: "a shorter body up to the end of a line", answer: func(x exchange) {
			x.r.Header.Del("Accept-Encoding") // so that a plan has lines
			x.alterBody(func(body []byte) ([]byte, int) {
				some := 1 + bytes.LastIndexByte(body[:x.rng.IntN(len(body))], '\n')
				return body[:some], some
			})
		}},
		{name: "a length above that of the body", answer: func(x exchange) {
			x.alterBody(func(body []byte) ([]byte, int) { return body, len(body) + 1 + x.rng.IntN(10_000) })
		}},
		{name: "the whole blob", onlyRanges: true, answer: func(x exchange) {
			x.r.Header.Del("Range")
			x.next.ServeHTTP(x.w, x.r)
		}},
		{name: "another range", onlyRanges: true, answer: func(x exchange) {
			x.r.Header.Set("Range", otherRange(x.r.Header.Get("Range"), x.rng))
			x.next.ServeHTTP(x.w, x.r)
		}},
		{name: "no such range", onlyRanges: true, mayFail: true, answer: func(x exchange) {
			x.w.Header().Set("Content-Range", "bytes */0")
			x.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}},
	}
}

// alterBody answers with next's answer, but with the body and the Content-Length that change
// returns; without a length if that is negative.
func (x exchange) alterBody(change func(body []byte) (_ []byte, length int)) {
	recorded := httptest.NewRecorder()
	x.next.ServeHTTP(recorded, x.r)
	body, length := recorded.Body.Bytes(), recorded.Body.Len()
	if recorded.Code < 300 && length > 0 {
		body, length = change(body)
	}
	maps.Copy(x.w.Header(), recorded.Header())
	x.w.Header().Del("Content-Length")
	if length >= 0 {
		x.w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	x.w.WriteHeader(recorded.Code)
	if length < 0 {
		http.NewResponseController(x.w).Flush() // prevents the server from setting the length
	}
	x.w.Write(body)
}

// otherRange returns a range that begins or ends elsewhere than the requested one.
func otherRange(asked string, rng *rand.Rand) string {
	var start, end int64
	fmt.Sscanf(asked, "bytes=%d-%d", &start, &end)
	within, before := rng.Int64N(end-start+1), rng.Int64N(start+1)
	return []string{
		fmt.Sprintf("bytes=%d-", start),
		fmt.Sprintf("bytes=%d-%d", start, start+within),
		fmt.Sprintf("bytes=%d-%d", start+within, end),
		fmt.Sprintf("bytes=%d-%d", before, end),
		fmt.Sprintf("bytes=%d-%d", before, before+within),
	}[rng.IntN(5)]
}

func TestWrongButWellFormedAnswersAreDetected(t *testing.T) {
	for _, l := range allWrongAnswers() {
		t.Run(l.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeParent(t)
				p.smallImages(10)
				large := p.image("app", [][]byte{randomBytes(100, 300<<10), randomBytes(101, 100<<10)}, "large")
				p.referrer("app", large, randomBytes(102, 40<<10))
				r := newReplica(t, p, replication.Options{ChunkSize: 32 << 10, Connections: 4})
				r.follow()
				wrong := newWrongAnswers(1, l)
				wrong.set(1)
				var asked atomic.Int64
				p.intercept = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if asked.Add(1)%2 == 0 {
						next.ServeHTTP(w, r)
						return
					}
					wrong.answer(w, r, next)
				}
				if result, err := r.Sync(t.Context(), r.source); err != nil || result.Failed > 0 && !l.mayFail {
					t.Errorf("Sync = %+v, %v; items: %v", result, err, r.items())
				}
				p.intercept = nil
				r.sync()
				assertInSync(t, p, r.Storage)
			})
		})
	}
}
