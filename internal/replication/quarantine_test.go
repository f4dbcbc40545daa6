package replication_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/replication"
)

// Wrong content is paid for in three Syncs, for the link may have spoilt it,
// and then not with every one that follows, unless somebody wants it.
func TestWrongContentIsQuarantinedAfterThreeSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		p := newPipeParent(t)
		bad := randomBytes(1, size)
		digest := string(p.PushBlob("a", bad).Digest)
		p.image("a", [][]byte{bad}, "bad")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		var mended atomic.Bool
		p.refuse = func(w http.ResponseWriter, rq *http.Request) bool {
			if !strings.HasSuffix(rq.URL.Path, digest) || mended.Load() {
				return false
			}
			http.ServeContent(w, rq, "", time.Time{}, strings.NewReader(strings.Repeat("x", size)))
			return true
		}
		cost := func() int64 {
			t.Helper()
			result, err := r.Sync(t.Context(), r.source)
			if err != nil || result.Failed != 1 {
				t.Fatalf("Sync = %+v, %v", result, err)
			}
			return result.Received
		}
		for range 3 {
			if n := cost(); n < 2*size || n > 2*size+100<<10 {
				t.Errorf("%d bytes to find out, want twice %d", n, size)
			}
		}
		for range 10 {
			time.Sleep(5 * time.Minute)
			if n := cost(); n > 100<<10 {
				t.Fatalf("%d bytes came of what is known to be wrong", n)
			}
		}
		if items := r.items(); len(items) != 1 || !strings.Contains(items[0], "fetched again after") {
			t.Errorf("items: %v", items)
		}
		time.Sleep(15 * time.Minute)
		if n := cost(); n < size {
			t.Errorf("%d bytes came after an hour, want another try", n)
		}
		mended.Store(true)
		r.ClearQuarantine()
		if result := r.sync(); result.Synced != 1 {
			t.Errorf("after it was mended: %+v", result)
		}
	})
}
