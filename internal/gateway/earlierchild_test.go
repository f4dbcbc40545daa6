package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// An earlierAnswer is the answers of a parent as a child reads them that knows no locks, no rotation, no
// join tokens, no announced endpoint, no events, no labels and no mode ReadWrite.
type earlierAnswer struct {
	Feed, Subscription string
	Cursor, Head       int64
	Restart, More      bool
	Listings           []struct {
		Repository string
		Seq        int64
		Items      []struct {
			Tag    string
			Digest digest.Digest
		}
	}
	Desired *struct {
		Version string
		Self    struct {
			Name, Schedule string
			Permissions    []string
		}
		Tokens    []struct{ Name, ScopeMap, Status string }
		ScopeMaps []struct {
			Name    string
			Actions []string
		}
	}
}

// ask posts a request as it is written, and returns the answer.
func (f *fixture) ask(t *testing.T, path, body string) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, f.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.SetBasicAuth("ship1", "secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %d %s, %v", path, body, resp.StatusCode, text, err)
	}
	return string(text)
}

func TestChildrenOfEarlierBuildsAreServed(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	open, locked := f.image("app/a", "1", "v1"), f.image("app/b", "2", "v1")
	lock := storage.LockChange{Set: storage.NoRead}
	if err := f.ChangeLocks(t.Context(), "app/b", "", lock); err != nil {
		t.Fatal(err)
	}
	f.controlPlane.set(func(p *controlPlane) {
		p.desired.Self.Spec = wire.Spec{
			Mode: wire.ModeReadWrite, Schedule: "0 2 * * *", Permissions: []string{"repositories/app/*/content/read"},
			Labels: map[string]string{"group": "baltic"}, RotatePasswordEvery: "P1D", Join: &wire.JoinToken{Hash: "1"},
			Gaps: []string{"x"},
		}
		p.desired.OwnToken = &wire.OwnToken{Passwords: []wire.Password{{Name: "password1", Rotated: true}}}
		p.desired.ParentEndpoint = "other:443"
		p.desired.Tokens = []wire.Token{{Name: "line1", ScopeMap: "m", Status: "enabled"}}
		p.desired.ScopeMaps = []wire.ScopeMap{{Name: "m", Actions: []string{"repositories/app/a/content/read"},
			ActionsWithExclusions: []string{"repositories/app/*/content/read", "repositories/!app/b/content/read"}}}
	})
	const activation = `{"name":"ship1","instanceId":"instance","version":"v0.1","capability":2}`
	poll := func(more string) string {
		return `{"name":"ship1","instanceId":"instance","capability":2` + more + `}`
	}
	report := `,"report":{"self":{"name":"ship1","instanceId":"instance","version":"v0.1","state":"Online",` +
		`"at":"2030-01-02T03:04:05Z","itemsSynced":1,"itemsPending":0,"itemsFailed":0}}`
	for _, c := range []struct{ name, path, body string }{
		{"an activation", wire.PathActivate, activation},
		{"a first poll", wire.PathPoll, poll("")},
		{"a poll with a report", wire.PathPoll, poll(report)},
		{"a poll with fields of a later build", wire.PathPoll,
			poll(`,"later":[{"locks":"wanted"}]` +
				strings.Replace(report, `"itemsSynced"`, `"later":{"a":1},"itemsSynced"`, 1))},
	} {
		var a earlierAnswer
		if err := json.Unmarshal([]byte(f.ask(t, c.path, c.body)), &a); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		d := a.Desired
		if d == nil || d.Version != "1" || d.Self.Name != "ship1" || d.Self.Schedule != "0 2 * * *" ||
			len(d.Self.Permissions) != 1 || len(d.Tokens) != 1 || len(d.ScopeMaps) != 1 ||
			d.ScopeMaps[0].Actions[0] != "repositories/app/a/content/read" {
			t.Errorf("%s: the desired state is %+v", c.name, d)
		}
		if c.path == wire.PathActivate {
			continue
		}
		if len(a.Listings) != 2 || a.Listings[0].Items[0].Digest != open || a.Listings[1].Items[0].Digest != locked {
			t.Errorf("%s: the listings are %+v", c.name, a.Listings)
		}
		place, _ := json.Marshal(map[string]any{"feed": a.Feed, "subscription": a.Subscription, "cursor": a.Cursor,
			"desiredVersion": "1"})
		var next earlierAnswer
		again := f.ask(t, wire.PathPoll, poll(","+strings.Trim(string(place), "{}")))
		if err := json.Unmarshal([]byte(again), &next); err != nil || next.Restart || len(next.Listings) > 0 ||
			next.Desired != nil {
			t.Errorf("%s: the next poll is answered with %s, %v", c.name, again, err)
		}
	}
	if n := len(f.controlPlane.reports); n != 2 {
		t.Errorf("%d reports were read", n)
	}
	for d, want := range map[digest.Digest]string{open: `{"complete":`, locked: `{"missing":`} {
		repository := map[digest.Digest]string{open: "app/a", locked: "app/b"}[d]
		plan := f.ask(t, wire.PathPlan, `{"name":"ship1","capability":2,"want":[{"repository":"`+repository+
			`","digest":"`+string(d)+`"}]}`)
		if !strings.Contains(plan, want) {
			t.Errorf("the plan for %s has no %s: %s", repository, want, plan)
		}
	}
}
