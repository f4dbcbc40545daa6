//go:build e2e

package e2e

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/wire"
	"ferry/test/image"
	"ferry/test/instance"
)

// A moment is a point in the handling of a request.
type moment int

const (
	beforeRequest moment = iota // the parent hears nothing of it
	duringBody                  // the parent gets the first part of the body
	beforeAnswer                // the parent has done it, and the answer is lost
	moments
)

// A killer is a proxy to a parent that kills the child at one of its requests that send changes.
type killer struct {
	host  string // of the proxy
	child *restartable
	kills int

	mu    sync.Mutex
	armed bool
	left  int // requests until the kill
	at    moment
	dead  chan struct{} // closed by the kill
}

func startKiller(t *testing.T, parent string) *killer {
	t.Helper()
	k := &killer{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: parent})
	proxy.FlushInterval = -1
	proxy.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, due := k.due(r)
		switch {
		case !due:
			proxy.ServeHTTP(w, r)
			return
		case at == duringBody:
			r.Body = &killedBody{r.Body, func() { k.kill(t) }}
			proxy.ServeHTTP(w, r)
		case at == beforeAnswer:
			proxy.ServeHTTP(httptest.NewRecorder(), r)
		}
		k.kill(t)
		panic(http.ErrAbortHandler)
	}))
	srv.Config.ErrorLog = proxy.ErrorLog
	srv.Start()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	k.host = srv.Listener.Addr().String()
	return k
}

// arm makes the killer kill the child at a moment of its next request but n that sends a change.
func (k *killer) arm(n int, at moment) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.armed, k.left, k.at, k.dead = true, n, at, make(chan struct{})
}

// due reports whether the child must be killed at a request.
func (k *killer) due(r *http.Request) (moment, bool) {
	sends := strings.HasPrefix(r.URL.Path, "/v2/") && (r.Method != http.MethodGet || strings.Contains(r.URL.Path,
		"/uploads/")) || r.URL.Path == wire.PathPush
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.armed || !sends {
		return 0, false
	}
	k.left--
	if k.left >= 0 {
		return 0, false
	}
	k.armed = false
	return k.at, true
}

func (k *killer) kill(t *testing.T) {
	k.mu.Lock()
	defer k.mu.Unlock()
	select {
	case <-k.dead:
	default:
		k.child.Kill(t)
		k.kills++
		close(k.dead)
	}
}

// A killedBody is the body of a request of which the parent gets the first part.
type killedBody struct {
	io.ReadCloser
	kill func()
}

// Read implements [io.Reader].
func (b *killedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.kill()
	return n, err
}

// TestKilledSendersLoseNoAcknowledgedPush kills a connected registry, or the one below it, at every kind of
// request with which they send changes up, before it, in its body, and before its answer.
func TestKilledSendersLoseNoAcknowledgedPush(t *testing.T) {
	const seed, rounds, requests = 1, 12, 10 // requests that an image takes
	rng := rand.New(rand.NewPCG(seed, 0))
	root := startRoot(t)
	operator := root.Admin(t, "root")
	toRoot := startKiller(t, root.Host)
	ship := startRestartable(t, instance.Connect(t, operator, "ship1", toRoot.host, []string{"apps/*"}, "--mode",
		"ReadWrite").Options(instance.Options{}))
	toShip := startKiller(t, ship.Host)
	cabin := startRestartable(t, instance.Connect(t, operator, "cabin", toShip.host, []string{"apps/*"}, "--mode",
		"ReadWrite", "--parent", "ship1").Options(instance.Options{}))
	toRoot.child, toShip.child = ship, cabin
	first := image.New(t, image.Options{Seed: 70, Tag: "first", Layers: []int64{1000}})
	push(t, root, "apps/a", first)
	awaitImage(t, cabin.Instance, "apps/a", first)

	want := map[string]digest.Digest{"first": first.Digest}
	for round := range rounds {
		k := []*killer{toRoot, toShip}[round%2]
		k.arm(rng.IntN(requests), moment(rng.IntN(int(moments))))
		img := image.New(t, image.Options{
			Seed: uint64(100 + round), Tag: fmt.Sprintf("v%d", rng.IntN(rounds/2)), Layers: []int64{300_000, 1000},
		})
		pushUntilAcknowledged(t, cabin, img)
		want[img.Tag] = img.Digest
		if round%5 == 4 {
			deleteTag(t, cabin, "apps/a", img.Tag)
			delete(want, img.Tag)
		}
		awaitKill(t, k)
	}
	awaitAt(t, ship, "the root has what was pushed", func(ctx context.Context) bool {
		return cmp.Equal(want, tags(t, root.AsAdmin(t), "apps/a"))
	})
	for tag, d := range want {
		if got, err := root.AsAdmin(t).Pull(t.Context(), "apps/a", tag); err != nil || got != d {
			t.Errorf("%s: the root serves %s, %v; want %s", tag, got, err, d)
		}
	}
	for _, s := range []*restartable{ship, cabin} {
		awaitAt(t, s, "no row is left", func(context.Context) bool { return outboxRows(t, s) == 0 })
	}
	t.Logf("killed %d and %d times", toRoot.kills, toShip.kills)
	if toRoot.kills < rounds/4 || toShip.kills < rounds/4 {
		t.Errorf("killed %d and %d times, want at least %d", toRoot.kills, toShip.kills, rounds/4)
	}
}

// pushUntilAcknowledged pushes again when the registry was killed before its answer.
func pushUntilAcknowledged(t *testing.T, s *restartable, img *image.Image) {
	t.Helper()
	for range 3 {
		err := s.AsAdmin(t).Push(t.Context(), "apps/a", img)
		if err == nil {
			return
		}
		startKilled(t, s, err)
	}
	t.Fatal("the registry was killed at each push")
}

// deleteTag deletes a tag, and again if the registry was killed before its answer.
func deleteTag(t *testing.T, s *restartable, repository, tag string) {
	t.Helper()
	for range 3 {
		resp, err := s.AsAdmin(t).Do(t.Context(), http.MethodDelete, "/v2/"+repository+"/manifests/"+tag, nil, nil, 0)
		if err == nil {
			resp.Body.Close()
			return
		}
		if isStatus(err, http.StatusNotFound, "") {
			return
		}
		startKilled(t, s, err)
	}
	t.Fatal("the registry was killed at each deletion")
}

// startKilled starts a registry whose kill made a request fail with err: the request may end before the process.
func startKilled(t *testing.T, s *restartable, err error) {
	t.Helper()
	awaitAt(t, s, fmt.Sprintf("it is killed, because a request failed: %v", err), func(context.Context) bool {
		return !s.Running()
	})
	s.start(t)
}

// awaitKill waits for the kill and starts the child again. If the child has sent everything before, there is
// no kill.
func awaitKill(t *testing.T, k *killer) {
	t.Helper()
	awaitAt(t, k.child, "it is killed, or has sent everything", func(ctx context.Context) bool {
		select {
		case <-k.dead:
			return true
		default:
		}
		return !k.child.Running() || outboxRows(t, k.child) == 0
	})
	k.mu.Lock()
	k.armed = false
	k.mu.Unlock()
	if !k.child.Running() {
		k.child.start(t)
	}
}

// outboxRows returns how many rows a connected registry has about changes to send.
func outboxRows(t *testing.T, s *restartable) (n int) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(s.DataDir, "ferry.db")+"?mode=ro&_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRowContext(t.Context(),
		`SELECT (SELECT count(*) FROM outbox) + (SELECT count(*) FROM outbox_uploads)`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// tags returns the digests of a repository's tags.
func tags(t *testing.T, l instance.Login, repository string) map[string]digest.Digest {
	t.Helper()
	resp, err := l.Do(t.Context(), http.MethodGet, "/v2/"+repository+"/tags/list", nil, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct{ Tags []string }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	all := map[string]digest.Digest{}
	for _, tag := range list.Tags {
		d, err := l.Digest(t.Context(), repository, tag)
		if err != nil && !isStatus(err, http.StatusNotFound, "") {
			t.Fatal(err)
		}
		all[tag] = d
	}
	return all
}
