package replication_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/faultnet"
	"ferry/internal/replication"
)

func TestStalledConnectionIsDroppedAndItsBytesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		const size = 4 << 20
		p.image("app", [][]byte{randomBytes(1, size)}, "v1")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		p.network.Set(faultnet.Faults{StallEvery: 1 << 20})
		start := time.Now()
		r.sync()
		if took := time.Since(start); took < time.Minute || took > 10*time.Minute {
			t.Errorf("Sync took %v; want a stalled connection to be dropped after a minute", took)
		}
		if sent := p.blobs.Load(); sent > size+size/4 {
			t.Errorf("%d bytes were sent for %d", sent, size)
		}
		assertInSync(t, p, r.Storage)
	})
}

func TestLinkIsUsedSoonAfterItComesBack(t *testing.T) {
	for _, down := range []time.Duration{3 * time.Second, time.Minute, time.Hour} {
		t.Run(down.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeParent(t)
				p.image("app", [][]byte{randomBytes(1, 3<<20)}, "v1")
				r := newReplica(t, p, replication.Options{})
				r.follow()
				p.network.Set(faultnet.Faults{Rate: 1 << 20})
				start := time.Now()
				go func() {
					time.Sleep(time.Second)
					p.network.SetDown(true)
					time.Sleep(down)
					p.network.SetDown(false)
				}()
				r.sync()
				delay := time.Since(start) - down - 3*time.Second
				if limit := min(down/7, 20*time.Second) + 500*time.Millisecond; delay > limit {
					t.Errorf("Sync ended %v after the link came back, want at most %v", delay, limit)
				}
				assertInSync(t, p, r.Storage)
			})
		})
	}
}

func TestNoRequestIsMadeBeforeRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		p.image("app", [][]byte{randomBytes(1, 100<<10), randomBytes(2, 100<<10)}, "v1")
		r := newReplica(t, p, replication.Options{Connections: 1})
		r.follow()
		var until time.Time
		early := 0
		p.respond = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.Contains(r.URL.Path, "/blobs") {
				return false
			}
			if until.IsZero() {
				until = time.Now().Add(100 * time.Second)
				w.Header().Set("Retry-After", "100")
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			if time.Now().Before(until) {
				early++
			}
			return false
		}
		start := time.Now()
		r.sync()
		if took := time.Since(start); early > 0 || took < 100*time.Second || took > 110*time.Second {
			t.Errorf("%d requests came early, and Sync took %v", early, took)
		}
	})
}

func TestBadLayerFailsOnlyItsImage(t *testing.T) {
	answer := func(status int) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }
	}
	for _, test := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		within time.Duration // limit for the whole Sync
	}{
		{"not found", answer(http.StatusNotFound), 10 * time.Second},
		{"denied", answer(http.StatusForbidden), 10 * time.Second},
		{"unauthorized", answer(http.StatusUnauthorized), 10 * time.Second},
		{"broken", answer(http.StatusInternalServerError), 5 * time.Minute},
		{"always cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 5 * time.Minute},
		{"wrong content", func(w http.ResponseWriter, _ *http.Request) { w.Write(make([]byte, 100<<10)) },
			10 * time.Second},
		{"too short", func(w http.ResponseWriter, _ *http.Request) { w.Write(nil) }, 5 * time.Minute},
		{"another range", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 5-9/102400")
			w.WriteHeader(http.StatusPartialContent)
			w.Write(make([]byte, 5))
		}, 5 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeParent(t)
				bad := randomBytes(1, 100<<10)
				badDigest := string(p.PushBlob("a", bad).Digest)
				p.image("a", [][]byte{bad, randomBytes(2, 50<<10)}, "bad")
				p.image("a", [][]byte{randomBytes(3, 200<<10)}, "good")
				p.image("z", [][]byte{randomBytes(4, 200<<10)}, "good")
				r := newReplica(t, p, replication.Options{})
				r.follow()
				p.respond = func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, badDigest) {
						test.answer(w, r)
						return true
					}
					return false
				}
				start := time.Now()
				result, err := r.Sync(t.Context(), r.source)
				if err != nil || result.Failed != 1 || result.Synced != 2 {
					t.Fatalf("Sync = %+v, %v; items %v", result, err, r.items())
				}
				if took := time.Since(start); took > test.within {
					t.Errorf("Sync took %v, want at most %v", took, test.within)
				}
				p.respond = nil
				if result := r.sync(); result.Synced != 1 {
					t.Errorf("the next Sync = %+v", result)
				}
				assertInSync(t, p, r.Storage)
			})
		})
	}
}

func TestLayerMissingInOneRepositoryComesFromAnother(t *testing.T) {
	p := newParent(t)
	shared := randomBytes(1, 300<<10)
	p.image("a", [][]byte{shared}, "v1")
	p.image("b", [][]byte{shared}, "v1")
	r := newReplica(t, p, replication.Options{ChunkSize: 64 << 10})
	r.follow()
	p.respond = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasPrefix(r.URL.Path, "/v2/a/") {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		return false
	}
	r.sync()
	assertInSync(t, p, r.Storage)
}

// A layer whose source always answers with Retry-After fails in the end, like any other that
// is unavailable.
func TestLayerWithEndlessRetryAfterFailsAlone(t *testing.T) {
	for _, size := range []int{100 << 10, 8 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPipeParent(t)
				bad := randomBytes(1, size)
				digest := string(p.PushBlob("a", bad).Digest)
				p.image("a", [][]byte{bad}, "bad")
				p.image("z", [][]byte{randomBytes(4, 10<<20)}, "good")
				r := newReplica(t, p, replication.Options{})
				r.follow()
				p.respond = func(w http.ResponseWriter, r *http.Request) bool {
					if !strings.HasSuffix(r.URL.Path, digest) {
						return false
					}
					w.Header().Set("Retry-After", "30")
					w.WriteHeader(http.StatusServiceUnavailable)
					return true
				}
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errClosed)
				defer cancel()
				if result, err := r.Sync(ctx, r.source); err != nil || result.Synced != 1 || result.Failed != 1 {
					t.Errorf("Sync = %+v, %v; want one item that is synced and one that failed", result, err)
				}
			})
		})
	}
}

// A source without ranges always breaks off at the same byte, and sends again only bytes that
// are on disk, which is no progress. So the layer fails.
func TestRepeatedBytesAreNotProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		bad := randomBytes(1, 100<<10)
		digest := string(p.PushBlob("a", bad).Digest)
		p.image("a", [][]byte{bad}, "bad")
		p.image("z", [][]byte{randomBytes(4, 300<<10)}, "good")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		p.respond = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, digest) {
				return false
			}
			time.Sleep(300 * time.Millisecond)
			w.Write(bad[:50<<10])
			return true
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errClosed)
		defer cancel()
		if result, err := r.Sync(ctx, r.source); err != nil || result.Synced != 1 || result.Failed != 1 {
			t.Errorf("Sync = %+v, %v; want one item that is synced and one that failed", result, err)
		}
	})
}

// One layer comes whole although a range was requested, as from a cache on the way. Other
// layers are still fetched in ranges over several connections.
func TestOneLayerWithoutRangesDoesNotSlowOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		whole, other := randomBytes(1, 1<<20), randomBytes(3, 32<<20)
		wholeDigest, otherDigest := string(p.PushBlob("a", whole).Digest), string(p.PushBlob("a", other).Digest)
		p.image("a", [][]byte{whole}, "whole")
		p.image("a", [][]byte{other}, "other")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		var now, highest atomic.Int64
		p.respond = func(w http.ResponseWriter, rq *http.Request) bool {
			switch {
			case strings.HasSuffix(rq.URL.Path, wholeDigest):
				w.Write(whole)
				return true
			case strings.HasSuffix(rq.URL.Path, otherDigest):
				n := now.Add(1)
				highest.Store(max(highest.Load(), n))
				time.Sleep(time.Second)
				now.Add(-1)
			}
			return false
		}
		r.sync()
		if n := highest.Load(); n < 8 {
			t.Errorf("the other layer had at most %d concurrent requests, want 8", n)
		}
	})
}
