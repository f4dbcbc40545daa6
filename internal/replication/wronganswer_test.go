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

// A liar stands before a parent. Some of the answers that it gives are in good
// form, and not all of what was asked for, or something else.
type wrongAnswers struct {
	kinds []wrongAnswer

	mu    sync.Mutex
	rng   *rand.Rand
	oneIn int // one answer of so many is a lie; 0 is none
}

func newWrongAnswers(seed uint64, lies ...wrongAnswer) *wrongAnswers {
	return &wrongAnswers{rng: rand.New(rand.NewPCG(seed, 9)), kinds: lies}
}

func (l *wrongAnswers) set(every int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.oneIn = every
}

// answer answers a request as next does, or with a lie.
func (l *wrongAnswers) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if tell, rng := l.draw(strings.HasPrefix(r.URL.Path, "/v2/")); tell != nil {
		tell(exchange{w, r.Clone(r.Context()), next, rng})
		return
	}
	next.ServeHTTP(w, r)
}

// draw returns what to answer, with chances of its own; nil is the truth.
func (l *wrongAnswers) draw(ofBlob bool) (tell func(exchange), _ *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oneIn == 0 || l.rng.IntN(l.oneIn) > 0 {
		return nil, nil
	}
	chosen := l.kinds[l.rng.IntN(len(l.kinds))]
	if chosen.onlyRanges && !ofBlob {
		return nil, nil
	}
	return chosen.answer, rand.New(rand.NewPCG(l.rng.Uint64(), 0))
}

// An exchange is a request, and the way to its answer.
type exchange struct {
	w    http.ResponseWriter
	r    *http.Request // which a lie may change
	next http.Handler
	rng  *rand.Rand
}

// A lie is a way to answer.
type wrongAnswer struct {
	name       string
	onlyRanges bool // only a request for a range of a blob can be answered so
	mayFail    bool // it may let an item fail
	answer     func(exchange)
}

// everyLie is what a proxy, a cache or a server in trouble may answer.
func allWrongAnswers() []wrongAnswer {
	return []wrongAnswer{
		{name: "less, and its length is that of what comes", answer: func(x exchange) {
			x.alterBody(func(body []byte) ([]byte, int) {
				some := x.rng.IntN(len(body))
				return body[:some], some
			})
		}},
		{name: "less, in chunks the last of which comes", answer: func(x exchange) {
			x.alterBody(func(body []byte) ([]byte, int) { return body[:x.rng.IntN(len(body))], -1 })
		}},
		{name: "less, up to the end of a line", answer: func(x exchange) {
			x.r.Header.Del("Accept-Encoding") // so that a plan has lines
			x.alterBody(func(body []byte) ([]byte, int) {
				some := 1 + bytes.LastIndexByte(body[:x.rng.IntN(len(body))], '\n')
				return body[:some], some
			})
		}},
		{name: "a length that is not reached", answer: func(x exchange) {
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

// retell answers with what change makes of next's body, and with the length
// that it returns for it; without one where that is negative.
func (x exchange) alterBody(change func(body []byte) (_ []byte, length int)) {
	told := httptest.NewRecorder()
	x.next.ServeHTTP(told, x.r)
	body, length := told.Body.Bytes(), told.Body.Len()
	if told.Code < 300 && length > 0 {
		body, length = change(body)
	}
	maps.Copy(x.w.Header(), told.Header())
	x.w.Header().Del("Content-Length")
	if length >= 0 {
		x.w.Header().Set("Content-Length", strconv.Itoa(length))
	}
	x.w.WriteHeader(told.Code)
	if length < 0 {
		http.NewResponseController(x.w).Flush() // or the server finds the length out
	}
	x.w.Write(body)
}

// otherRange returns a range that begins or ends elsewhere than the one asked for.
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
				liar := newWrongAnswers(1, l)
				liar.set(1)
				var asked atomic.Int64
				p.intercept = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if asked.Add(1)%2 == 0 {
						next.ServeHTTP(w, r)
						return
					}
					liar.answer(w, r, next)
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
