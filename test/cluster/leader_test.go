//go:build cluster

package cluster_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/faultnet"
	"ferry/test/cluster"
	"ferry/test/image"
	"ferry/test/instance"
)

// takeOver is how long the work of which there is only one may stand still after its process was killed.
const takeOver = time.Minute

// A slowSource is a registry whose blobs come slowly.
type slowSource struct {
	*instance.Instance
	host string // of the slow way to it
	rate atomic.Int64
	sent atomic.Int64

	mu    sync.Mutex
	lists map[string]int // how often the tags of a repository were listed
}

func startSource(t *testing.T) *slowSource {
	t.Helper()
	s := &slowSource{Instance: instance.Start(t, instance.Options{}), lists: map[string]int{}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.Host})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if repo, ok := strings.CutSuffix(r.URL.Path, "/tags/list"); ok {
			s.mu.Lock()
			s.lists[strings.TrimPrefix(repo, "/v2/")]++
			s.mu.Unlock()
		}
		if strings.Contains(r.URL.Path, "/blobs/") {
			w = &faultnet.SlowWriter{ResponseWriter: w, Context: r.Context(), Rate: s.rate.Load,
				Sent: func(n int) { s.sent.Add(int64(n)) }}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	s.host = strings.TrimPrefix(srv.URL, "http://")
	return s
}

// listed returns how often the tags of a repository were listed.
func (s *slowSource) listed(repo string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lists[repo]
}

// A receiver counts the events that a webhook sends, by repository.
type receiver struct {
	url string

	mu    sync.Mutex
	count map[string]int
}

func startReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{count: map[string]int{}}
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		var event struct {
			Data struct {
				Target struct{ Repository, Tag string } `json:"target"`
			} `json:"data"`
		}
		_ = json.NewDecoder(req.Body).Decode(&event) // another event counts as one without a repository
		r.mu.Lock()
		r.count[event.Data.Target.Repository+":"+event.Data.Target.Tag]++
		r.mu.Unlock()
	}))
	t.Cleanup(srv.Close)
	r.url = srv.URL
	return r
}

func (r *receiver) of(image string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count[image]
}

// within waits until ok is true, and returns how long that took.
func within(t *testing.T, limit time.Duration, promise string, ok func() bool) time.Duration {
	t.Helper()
	begun, tick := time.Now(), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(begun) > limit {
			t.Fatalf("not within %s: %s", limit, promise)
		}
		<-tick.C
	}
	return time.Since(begun)
}

// The leader imports, mirrors and delivers events. It is killed in the middle of an import and of a rule's run, while a
// command waits for the import.
func TestKilledLeaderIsReplacedAndItsWorkGoesOn(t *testing.T) {
	const size = 8 << 20
	c := cluster.Start(t, cluster.Options{})
	source, hook := startSource(t), startReceiver(t)
	for seed, repo := range []string{"app", "lib"} {
		img := image.New(t, image.Options{Seed: uint64(400 + seed), Layers: []int64{size}})
		if err := source.AsAdmin(t).Push(t.Context(), repo, img); err != nil {
			t.Fatal(err)
		}
	}
	admin := c.Root().Admin(t, "root")
	admin.Run(t, "webhook", "create", "-r", "root", "-n", "deploy", "--uri", hook.url, "--actions", "push")
	source.rate.Store(256 << 10) // of each request, so that little is on its way at a time
	password := source.AdminPassword(t)
	login := []string{"--username", "admin", "--password", password}
	admin.Run(t, append([]string{"mirror", "create", "-r", "root", "-n", "lib", "--repository", "lib",
		"--source", "http://" + source.host + "/lib"}, login...)...)
	done := make(chan error, 1)
	go func() {
		_, err := admin.Try(t, append([]string{"import", "-r", "root", "--source", "http://" + source.host + "/app:v1",
			"--image", "copy:v1"}, login...)...)
		done <- err
	}()
	within(t, time.Minute, "half of both images", func() bool { return source.sent.Load() > size })
	var before []api.Import
	admin.JSON(t, &before, "import", "list", "-r", "root")

	c.Processes[0].Kill(t)
	fetched, lists := source.sent.Load(), source.listed("lib")
	pushed := image.New(t, image.Options{Seed: 410, Tag: "t0", Layers: []int64{1000}})
	other := c.Root().AsAdmin(t)
	other.Host = c.Processes[1].Host
	if err := other.Push(t.Context(), "pushed", pushed); err != nil {
		t.Fatal(err)
	}
	rule := within(t, takeOver, "the rule runs again", func() bool { return source.listed("lib") > lists })
	bytes := within(t, takeOver, "content comes again", func() bool { return source.sent.Load() > fetched+100_000 })
	event := within(t, takeOver, "the event is delivered", func() bool { return hook.of("pushed:t0") > 0 })
	if err := <-done; err != nil {
		t.Errorf("the command that waits for the import: %v", err)
	}
	var after []api.Import
	admin.JSON(t, &after, "import", "list", "-r", "root")
	if len(before) != 1 || len(after) != 1 || before[0].Name != after[0].Name || after[0].State != "Succeeded" {
		t.Errorf("the imports before and after: %+v, %+v", before, after)
	}
	ctx, stop := context.WithTimeout(t.Context(), settleTimeout)
	defer stop()
	for _, image := range []string{"copy:v1", "lib:v1", "pushed:t0"} {
		repo, tag, _ := strings.Cut(image, ":")
		within(t, takeOver, image+" is here", func() bool {
			_, err := other.Pull(ctx, repo, tag)
			return err == nil
		})
	}
	// What the killed process had not stored, and what was on its way to it, is fetched again.
	all := source.sent.Load()
	t.Logf("the rule ran again after %s, content came after %s, the event after %s", rule, rule+bytes, rule+bytes+event)
	t.Logf("%d bytes of %d were sent, %d of them to the killed process", all, 2*size, fetched)
	if all > 2*size+size/2 {
		t.Errorf("%d bytes were sent of layers of %d", all, 2*size)
	}
	if n := hook.of("pushed:t0"); n != 1 {
		t.Errorf("the event of a push was delivered %d times", n)
	}
}
