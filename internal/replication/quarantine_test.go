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

// Wrong content is fetched in three Syncs, because the link may have damaged it. Later Syncs
// leave it alone for an hour, unless an operator clears the quarantine.
func TestWrongContentIsQuarantinedAfterThreeSyncs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const size = 2 << 20
		p := newPipeParent(t)
		bad := randomBytes(1, size)
		digest := string(p.PushBlob("a", bad).Digest)
		p.image("a", [][]byte{bad}, "bad")
		r := newReplica(t, p, replication.Options{})
		r.follow()
		var repaired atomic.Bool
		p.respond = func(w http.ResponseWriter, rq *http.Request) bool {
			if !strings.HasSuffix(rq.URL.Path, digest) || repaired.Load() {
				return false
			}
			http.ServeContent(w, rq, "", time.Time{}, strings.NewReader(strings.Repeat("x", size)))
			return true
		}
		received := func() int64 {
			t.Helper()
			result, err := r.Sync(t.Context(), r.source)
			if err != nil || result.Failed != 1 {
				t.Fatalf("Sync = %+v, %v", result, err)
			}
			return result.Received
		}
		for range 3 {
			if n := received(); n < 2*size || n > 2*size+100<<10 {
				t.Errorf("%d bytes were received, want twice %d", n, size)
			}
		}
		for range 10 {
			time.Sleep(5 * time.Minute)
			if n := received(); n > 100<<10 {
				t.Fatalf("%d bytes were received of a quarantined layer", n)
			}
		}
		if items := r.items(); len(items) != 1 || !strings.Contains(items[0], "fetched again after") {
			t.Errorf("items: %v", items)
		}
		time.Sleep(15 * time.Minute)
		if n := received(); n < size {
			t.Errorf("%d bytes were received after an hour, want another try", n)
		}
		repaired.Store(true)
		r.ClearQuarantine()
		if result := r.sync(); result.Synced != 1 {
			t.Errorf("after the repair: Sync = %+v", result)
		}
	})
}
