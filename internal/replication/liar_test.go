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
type liar struct {
	lies []lie

	mu    sync.Mutex
	rng   *rand.Rand
	every int // one answer of so many is a lie; 0 is none
}

func newLiar(seed uint64, lies ...lie) *liar {
	return &liar{rng: rand.New(rand.NewPCG(seed, 9)), lies: lies}
}

func (l *liar) set(every int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.every = every
}

// answer answers a request as next does, or with a lie.
func (l *liar) answer(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if tell, rng := l.draw(strings.HasPrefix(r.URL.Path, "/v2/")); tell != nil {
		tell(exchange{w, r.Clone(r.Context()), next, rng})
		return
	}
	next.ServeHTTP(w, r)
}

// draw returns what to answer, with chances of its own; nil is the truth.
func (l *liar) draw(ofBlob bool) (tell func(exchange), _ *rand.Rand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.every == 0 || l.rng.IntN(l.every) > 0 {
		return nil, nil
	}
	chosen := l.lies[l.rng.IntN(len(l.lies))]
	if chosen.ofRange && !ofBlob {
		return nil, nil
	}
	return chosen.tell, rand.New(rand.NewPCG(l.rng.Uint64(), 0))
}

// An exchange is a request, and the way to its answer.
type exchange struct {
	w    http.ResponseWriter
	r    *http.Request // which a lie may change
	next http.Handler
	rng  *rand.Rand
}

// A lie is a way to answer.
type lie struct {
	name    string
	ofRange bool // only a request for a range of a blob can be answered so
	refusal bool // it may let an item fail
	tell    func(exchange)
}

// everyLie is what a proxy, a cache or a server in trouble may answer.
func everyLie() []lie {
	return []lie{
		{name: "less, and its length is that of what comes", tell: func(x exchange) {
			x.retell(func(body []byte) ([]byte, int) {
				some := x.rng.IntN(len(body))
				return body[:some], some
			})
		}},
		{name: "less, in chunks the last of which comes", tell: func(x exchange) {
			x.retell(func(body []byte) ([]byte, int) { return body[:x.rng.IntN(len(body))], -1 })
		}},
		{name: "less, up to the end of a line", tell: func(x exchange) {
			x.r.Header.Del("Accept-Encoding") // so that a plan has lines
			x.retell(func(body []byte) ([]byte, int) {
				some := 1 + bytes.LastIndexByte(body[:x.rng.IntN(len(body))], '\n')
				return body[:some], some
			})
		}},
		{name: "a length that is not reached", tell: func(x exchange) {
			x.retell(func(body []byte) ([]byte, int) { return body, len(body) + 1 + x.rng.IntN(10_000) })
		}},
		{name: "the whole blob", ofRange: true, tell: func(x exchange) {
			x.r.Header.Del("Range")
			x.next.ServeHTTP(x.w, x.r)
		}},
		{name: "another range", ofRange: true, tell: func(x exchange) {
			x.r.Header.Set("Range", otherRange(x.r.Header.Get("Range"), x.rng))
			x.next.ServeHTTP(x.w, x.r)
		}},
		{name: "no such range", ofRange: true, refusal: true, tell: func(x exchange) {
			x.w.Header().Set("Content-Range", "bytes */0")
			x.w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
		}},
	}
}

// retell answers with what change makes of next's body, and with the length
// that it returns for it; without one where that is negative.
func (x exchange) retell(change func(body []byte) (_ []byte, length int)) {
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
	for _, l := range everyLie() {
		t.Run(l.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeParent(t)
				p.smallImages(10)
				large := p.image("app", [][]byte{random(100, 300<<10), random(101, 100<<10)}, "large")
				p.referrer("app", large, random(102, 40<<10))
				r := newReplica(t, p, replication.Options{ChunkSize: 32 << 10, Connections: 4})
				r.follow()
				liar := newLiar(1, l)
				liar.set(1)
				var asked atomic.Int64
				p.answer = func(w http.ResponseWriter, r *http.Request, next http.Handler) {
					if asked.Add(1)%2 == 0 {
						next.ServeHTTP(w, r)
						return
					}
					liar.answer(w, r, next)
				}
				if result, err := r.Sync(t.Context(), r.source); err != nil || result.Failed > 0 && !l.refusal {
					t.Errorf("Sync = %+v, %v; items: %v", result, err, r.items())
				}
				p.answer = nil
				r.sync()
				same(t, p, r.Storage)
			})
		})
	}
}
