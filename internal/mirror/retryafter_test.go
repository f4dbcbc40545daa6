package mirror_test

import (
	"net/http"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/mirror"
)

// busy lets the upstream answer one request with 429 and a time to come back,
// and returns what counts requests that came before that.
func (u *upstream) busy(path string, pause time.Duration) (early func() int) {
	var until time.Time
	n := 0
	before := u.before
	u.set(func() {
		u.before = func(w http.ResponseWriter, r *http.Request) bool {
			u.mu.Lock()
			defer u.mu.Unlock()
			if path != "" && r.URL.Path != path {
				return before != nil && before(w, r)
			}
			if until.IsZero() {
				until = time.Now().Add(pause)
				w.Header().Set("Retry-After", strconv.Itoa(int(pause.Seconds())))
				w.WriteHeader(http.StatusTooManyRequests)
				return true
			}
			if time.Now().Before(until) {
				n++
			}
			return before != nil && before(w, r)
		}
	})
	return func() int {
		u.mu.Lock()
		defer u.mu.Unlock()
		if until.IsZero() {
			return -1
		}
		return n
	}
}

func TestRetryAfterIsSharedPerHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t)
		d := h.upstream.image("app", "one", 10, "1")
		early := h.upstream.busy("", 40*time.Minute)
		h.rule(mirror.Spec{})
		time.Sleep(time.Minute)
		if s := h.Status("r"); s.Running || time.Until(s.NotBefore) < 38*time.Minute {
			t.Errorf("for 40 minutes the rule would keep others from their turn: %+v", s)
		}
		// Neither a wish nor a restart of the run nor an import asks before.
		h.update(askRule)
		h.Wake()
		i := h.bring(t, mirror.ImportRequest{Source: "http://upstream.example/app:1"})
		if i.State != mirror.ImportSucceeded {
			t.Errorf("%+v", i)
		}
		time.Sleep(10 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image did not come afterwards")
		}
		if n := early(); n != 0 {
			t.Errorf("%d requests came before their time", n)
		}
	})
}

func TestRetryAfterIsAtMostAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.upstream.busy("", 1000*time.Hour)
		h.rule(mirror.Spec{})
		time.Sleep(90 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image did not come within an hour and a half")
		}
	})
}

func TestRetryAfterOfATokenEndpointIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHere(t)
		d := h.upstream.image("app", "one", 10, "1")
		h.upstream.before = (&expiring{left: map[string]int{}, used: map[string]bool{}}).before
		early := h.upstream.busy("/token/x", 5*time.Minute)
		h.rule(mirror.Spec{})
		time.Sleep(10 * time.Minute)
		if h.tags("local/app")["1"] != d {
			t.Error("the image did not come afterwards")
		}
		if n := early(); n != 0 {
			t.Errorf("%d requests came before their time", n)
		}
	})
}
