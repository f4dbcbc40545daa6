package mirror_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/mirror"
)

// An expiring registry requires a token that is valid for a few requests. It redirects
// requests for blobs to addresses that are valid for one request each.
type expiring struct {
	mu      sync.Mutex
	left    map[string]int // for how many requests each token is still valid
	address int            // the last redirect
	used    map[string]bool
}

func (e *expiring) before(w http.ResponseWriter, r *http.Request) (done bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.URL.Path == "/token/x" {
		token := fmt.Sprint("t", len(e.left))
		e.left[token] = 5
		fmt.Fprintf(w, `{"token":%q,"expires_in":3600}`, token)
		return true
	}
	if at, ok := strings.CutPrefix(r.URL.Path, "/signed/"); ok {
		address, d, _ := strings.Cut(at, "/")
		if e.used[address] {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		e.used[address] = true
		r.URL.Path = "/v2/app/blobs/" + d
		return false
	}
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if e.left[token] == 0 {
		w.Header().Set("Www-Authenticate",
			`Bearer realm="http://upstream.example/token/x",service="upstream",scope="repository:app:pull"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	e.left[token]--
	if _, d, ok := strings.Cut(r.URL.Path, "/blobs/"); ok {
		e.address++
		http.Redirect(w, r, fmt.Sprintf("/signed/%d/%s", e.address, d), http.StatusTemporaryRedirect)
		return true
	}
	return false
}

func TestExpiredTokensAndRedirectsAreRenewed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newInstance(t)
		d := h.upstream.image("app", "one", 12<<20, "v1")
		e := &expiring{left: map[string]int{}, used: map[string]bool{}}
		h.upstream.set(func() { h.upstream.before, h.upstream.rate = e.before, 1<<20 })
		h.rule(mirror.Spec{})
		if row := h.awaitRun(time.Time{}); row.Error != "" {
			t.Error(row.Error)
		}
		if diff := cmp.Diff(map[string]digest.Digest{"v1": d}, h.tags("local/app")); diff != "" {
			t.Error(diff)
		}
		if len(e.left) < 3 || e.address < 8 {
			t.Errorf("only %d tokens and %d addresses were issued: the test proves nothing", len(e.left), e.address)
		}
	})
}
