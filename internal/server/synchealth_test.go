package server

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"ferry/internal/mirror"
	"ferry/internal/wire"
)

// A quietSite is a site that says what the test wants it to.
type quietSite struct {
	status wire.Status
	heard  time.Time
	asked  int
}

func (s *quietSite) Status() *wire.Status { s.asked++; return &s.status }
func (s *quietSite) Heard() time.Time     { return s.heard }

func TestSyncHealthIs200OnlyInSyncWithAHeardParent(t *testing.T) {
	start := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	good := wire.Status{SyncState: "Succeeded", LastSyncSuccess: start, ItemsSynced: 3}
	for _, test := range []struct {
		name     string
		change   func(*wire.Status)
		schedule string
		later    time.Duration
		reason   string
	}{
		{"in step", nil, "* * * * *", time.Minute, ""},
		{"in step, and the link was just lost", nil, "* * * * *", 10 * time.Minute, ""},
		{"the link is long lost", nil, "* * * * *", time.Hour, "was not heard"},
		{"between two windows", nil, "0 2 * * *", 13 * time.Hour, ""},
		{"a window went by in silence", nil, "0 2 * * *", 17 * time.Hour, "was not heard"},
		{"not activated", func(s *wire.Status) { s.SyncState = "NotActivated" }, "* * * * *", 0, "not activated"},
		{"paused", func(s *wire.Status) { s.Paused = true }, "* * * * *", 0, "paused"},
		{"items to come", func(s *wire.Status) { s.ItemsPending = 1 }, "* * * * *", 0, "still to come"},
		{"items that failed", func(s *wire.Status) { s.ItemsFailed = 1 }, "* * * * *", 0, "failed"},
		{"refused", func(s *wire.Status) { s.Details = []wire.StatusDetail{{Code: "ParentRefuses"}} }, "* * * * *", 0,
			"refuses"},
		{"new", func(s *wire.Status) { s.LastSyncSuccess = time.Time{} }, "* * * * *", 0, "no sync"},
	} {
		t.Run(test.name, func(t *testing.T) {
			site := &quietSite{status: good, heard: start}
			if test.change != nil {
				test.change(&site.status)
			}
			own := &wire.ConnectedRegistry{Spec: wire.Spec{Schedule: test.schedule}}
			if test.schedule != "* * * * *" {
				own.SyncWindow = "PT2H"
			}
			h := &syncHealth{
				agent: site, started: start.Add(-time.Hour), now: func() time.Time { return start.Add(test.later) },
				own: func(context.Context) (*wire.ConnectedRegistry, error) { return own, nil },
			}
			for range 3 {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
				var a syncAnswer
				if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
					t.Fatal(err)
				}
				status := 200
				if test.reason != "" {
					status = 503
				}
				if w.Code != status || a.InSync != (status == 200) || !strings.Contains(a.Reason, test.reason) ||
					test.reason == "" && a.Reason != "" {
					t.Errorf("%d %s, want %d and %q", w.Code, w.Body, status, test.reason)
				}
			}
			if site.asked != 1 {
				t.Errorf("rows were counted %d times for three that asked at once", site.asked)
			}
		})
	}
}

// A ship that is started every morning does not forget with each start how long
// its parent has been silent.
func TestSyncHealthRemembersSilenceOverARestart(t *testing.T) {
	start := time.Date(2030, 1, 10, 12, 0, 0, 0, time.UTC)
	own := &wire.ConnectedRegistry{Spec: wire.Spec{Schedule: "0 2 * * *", SyncWindow: "PT2H"}}
	for heard, status := range map[time.Time]int{start.AddDate(0, 0, -3): 503, start.Add(-9 * time.Hour): 200, {}: 200} {
		h := &syncHealth{
			agent:   &quietSite{status: wire.Status{SyncState: "Succeeded", LastSyncSuccess: start}, heard: heard},
			started: start.Add(-time.Minute), now: func() time.Time { return start },
			own: func(context.Context) (*wire.ConnectedRegistry, error) { return own, nil },
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
		if w.Code != status {
			t.Errorf("heard at %v: %d %s, want %d", heard, w.Code, w.Body, status)
		}
	}
}

// rules are mirror rules that stand as the test wants them to.
type rules mirror.Summary

func (r rules) Summary(context.Context) (mirror.Summary, error) { return mirror.Summary(r), nil }

func TestARootIsInSyncIfItsMirrorRulesAre(t *testing.T) {
	for _, c := range []struct {
		rules  rules
		status int
		reason string
	}{
		{rules{}, 200, ""},
		{rules{Rules: 3, LastSuccess: time.Now()}, 200, ""},
		{rules{Rules: 3, OutOfSync: 1, ItemsFailed: 2}, 503, "1 of 3 mirror rules are not in sync"},
	} {
		w := httptest.NewRecorder()
		(&syncHealth{rules: c.rules, now: time.Now}).ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.reason) {
			t.Errorf("%+v: %d %s", c.rules, w.Code, w.Body)
		}
	}
}

func TestSyncHealthCountsDamage(t *testing.T) {
	h := &syncHealth{rules: rules{}, now: time.Now, damaged: func(context.Context) (int64, error) { return 2, nil }}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
	if w.Code != 200 || !strings.Contains(w.Body.String(), `"damaged":2`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
