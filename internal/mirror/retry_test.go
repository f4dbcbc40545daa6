package mirror_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
)

// respond makes the upstream answer all requests whose path contains part with a status,
// until the given time.
func (u *upstream) respond(status int, part string, until time.Time) {
	u.set(func() {
		u.before = func(w http.ResponseWriter, r *http.Request) bool {
			answers := strings.Contains(r.URL.Path, part) && time.Now().Before(until)
			if answers {
				w.WriteHeader(status)
			}
			return answers
		}
	})
}

// sleepUntil sleeps until a time of this day, in UTC.
func sleepUntil(after time.Duration) {
	midnight := time.Now().UTC().Truncate(24 * time.Hour)
	time.Sleep(time.Until(midnight.Add(after)))
}

func TestRunRecoversFromAnOutageWithinItsWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.rule(mirror.Spec{Schedule: "0 6 * * *", Window: "PT3H"})
		h.upstream.respond(http.StatusBadGateway, "",
			time.Now().UTC().Truncate(24*time.Hour).Add(6*time.Hour+15*time.Minute))
		sleepUntil(6*time.Hour + 40*time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("25 minutes after the source recovered, the image is not here")
		}
	})
}

func TestRetriesBackOffUntilTheWindowCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.rule(mirror.Spec{Schedule: "0 6 * * *", Window: "PT3H"})
		h.upstream.respond(http.StatusBadGateway, "", time.Now().Add(48*time.Hour))
		sleepUntil(6 * time.Hour)
		var pauses []int // minutes between two requests
		for minute, idle := 0, 0; minute < 180; minute++ {
			time.Sleep(time.Minute)
			if !h.Status("r").Running {
				idle++
			} else if idle > 0 {
				pauses, idle = append(pauses, idle), 0
			}
		}
		if n := len(pauses); n < 4 || n > 12 || pauses[n-1] < 2*pauses[0] {
			t.Errorf("the pauses between requests were %d minutes", pauses)
		}
		h.upstream.requestCount("GET tags")
		sleepUntil(24 * time.Hour)
		if n := h.upstream.requestCount("GET tags"); n > 0 {
			t.Errorf("%d requests came after the window", n)
		}
		h.upstream.set(func() { h.upstream.before = nil })
		sleepUntil(6*time.Hour + 10*time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the run of the next window did not begin with its tick")
		}
	})
}

func TestOnlyTemporaryFailuresAreRetriedBeforeNextTick(t *testing.T) {
	bad := "/blobs/" + string(digest.FromString("config bad"))
	for name, c := range map[string]struct {
		status int
		part   string
		again  bool
	}{
		"a source that refuses":         {http.StatusUnauthorized, "", false},
		"a source without a repository": {http.StatusNotFound, "", false},
		"a source that is down":         {http.StatusServiceUnavailable, "", true},
		"a layer that is gone":          {http.StatusNotFound, bad, false},
		"a layer that does not come":    {http.StatusInternalServerError, bad, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newInstance(t)
				good, bad := h.upstream.image("app", "good", 10, "good"), h.upstream.image("app", "bad", 10, "bad")
				h.upstream.respond(c.status, c.part, time.Now().Add(2*time.Hour))
				h.rule(mirror.Spec{})
				time.Sleep(time.Hour)
				if row := h.awaitRun(time.Time{}); row.Error == "" || row.RetrySince.IsZero() == c.again {
					t.Errorf("the run ended as %+v", row)
				}
				time.Sleep(3 * time.Hour)
				if tags := h.tags("local/app"); (tags["bad"] == bad && tags["good"] == good) != c.again {
					t.Errorf("two hours after the source recovered, the tags are %v", tags)
				}
			})
		})
	}
}

func TestRunWithoutProgressEndsAndIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "large", 4<<20, "1")
		h.upstream.set(func() { h.upstream.rate = 10 << 10 })
		h.rule(mirror.Spec{})
		time.Sleep(30 * time.Second) // in the middle of the layer
		back := time.Now().Add(90 * time.Minute)
		h.upstream.respond(http.StatusBadGateway, "", back)
		for range 20 {
			time.Sleep(time.Minute)
			if !h.Status("r").Running {
				break
			}
		}
		if h.Status("r").Running {
			t.Error("the run did not end")
		}
		h.update(runError(t, func(why string) {
			if !strings.Contains(why, "the source sent nothing") {
				t.Errorf("the rule's error is %q", why)
			}
		}))
		time.Sleep(time.Hour) // the retries do not even get an answer
		h.update(runError(t, func(why string) {
			if !strings.Contains(why, "502") && !h.Status("r").Running {
				t.Errorf("the rule's error is %q", why)
			}
		}))
		// If a retry failed just before, the longest pause follows: half an hour, and a
		// third of that as jitter.
		for h.tags("local/app")["1"] != d {
			if time.Since(back) > time.Hour {
				t.Fatal("an hour after the source recovered, the image is not here")
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestSourceThatStopsAnsweringIsRetried(t *testing.T) {
	for name, begin := range map[string]string{"from the start": "", "in the middle": `{"tags":["1",`} {
		for _, part := range []string{"/tags/", "/manifests/", "/referrers/"} {
			t.Run(part+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := newInstance(t)
					d := h.upstream.image("app", "one", 10, "1")
					var stalled atomic.Bool
					over := make(chan struct{})
					defer close(over)
					h.upstream.before = func(w http.ResponseWriter, r *http.Request) bool {
						if !strings.Contains(r.URL.Path, part) || !stalled.CompareAndSwap(false, true) {
							return false
						}
						if begin != "" {
							io.WriteString(w, begin)
							w.(http.Flusher).Flush()
						}
						<-over
						return true
					}
					h.rule(mirror.Spec{})
					time.Sleep(9 * time.Minute)
					if h.tags("local/app")["1"] != d || h.Status("r").Running {
						t.Errorf("%+v", h.Status("r"))
					}
				})
			})
		}
	}
}
