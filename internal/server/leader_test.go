package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// metric returns the value of a metric of a process; "" if it has none.
func metric(t *testing.T, m *member, password, name string) string {
	t.Helper()
	_, text := get(t, m.URL+"/metrics", "admin", password)
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func TestGarbageIsCollectedByOneProcessAtATime(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	s := newShared(t)
	s.collections = 100 * time.Millisecond
	a, b := s.start(t), s.start(t) // a is the leader
	runs := func(m *member) string { return metric(t, m, a.password, "ferry_gc_runs_total") }
	eventually(t, func() bool { return runs(a) != "0" && runs(a) != "1" && runs(a) != "" })
	if n := runs(b); n != "0" {
		t.Errorf("the process that does not lead has collected garbage %s times", n)
	}
	if err := a.stop(); err != nil {
		t.Error(err)
	}
	eventually(t, func() bool { return runs(b) != "0" })
}

func TestHeldPollWakesForAChangeAtAnotherProcess(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	s := newShared(t)
	a, b := s.start(t), s.start(t)
	must := func(m *member, want int, method, path, body string, header ...string) string {
		t.Helper()
		status, text, _ := m.call(t, a.password, method, path, body, header...)
		if status != want {
			t.Fatalf("%s %s: %d %s, want %d", method, path, status, text, want)
		}
		return text
	}
	push := func(m *member, tag string) {
		t.Helper()
		index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],`+
			`"annotations":{"tag":%q}}`, tag)
		must(m, http.StatusCreated, "PUT", "/v2/app/manifests/"+tag, index,
			"Content-Type", "application/vnd.oci.image.index.v1+json")
	}
	push(a, "v0")
	must(a, http.StatusOK, "PUT", "/api/v1/connected-registries/ship1", `{"repositories":["app"]}`)
	text := must(b, http.StatusOK, "POST", "/api/v1/connected-registries/ship1/settings",
		`{"parentProtocol":"http","generatePassword":1}`)
	var settings api.InstanceSettings
	if err := json.Unmarshal([]byte(text), &settings); err != nil {
		t.Fatal(err)
	}
	to, err := wire.ParseConnectionStringFor(settings.ConnectionString, b.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	child := gateway.NewClient(to, nil)
	q := wire.PollRequest{InstanceID: "one", Locks: wire.LocksKnown}
	activated, err := child.Activate(t.Context(), wire.ActivateRequest{InstanceID: q.InstanceID})
	if err != nil {
		t.Fatal(err)
	}
	q.DesiredVersion = activated.Desired.Version
	poll := func() *wire.PollResponse {
		t.Helper()
		r, err := child.Poll(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		q.Feed, q.Subscription, q.Cursor = r.Feed, r.Subscription, r.Cursor
		if r.Desired != nil {
			q.DesiredVersion = r.Desired.Version
		}
		return r
	}
	for more := true; more; {
		r := poll()
		more = r.More || len(r.Listings) > 0 || r.Desired != nil
	}
	q.WaitSeconds = 60
	answers := make(chan *wire.PollResponse, 1)
	go func() {
		r, err := child.Poll(t.Context(), q)
		if err != nil {
			t.Error(err)
		}
		answers <- r
	}()
	eventually(t, func() bool { return metric(t, b, a.password, "ferry_held_polls") == "1" })
	begun := time.Now()
	push(a, "v1")
	r := <-answers
	if r == nil || len(r.Listings) != 1 || r.Listings[0].Repository != "app" {
		t.Fatalf("the answer is %+v", r)
	}
	took := time.Since(begun)
	t.Logf("the poll was answered %s after the push began", took)
	if took > 10*time.Second { // it would be held for a minute
		t.Error("the poll did not wake")
	}
}
