package server

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
	"ferry/internal/mirror"
)

// A fakeAgent has the status that the test sets.
type fakeAgent struct {
	status api.SyncStatus
	asked  int
}

func (s *fakeAgent) SyncStatus() *api.SyncStatus { s.asked++; return &s.status }

func TestSyncHealthIs200OnlyInSync(t *testing.T) {
	at := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		verdict api.Verdict
		code    int
	}{
		{api.Verdict{InSync: true, Status: api.InSync, AsOfTime: &at}, 200},
		{api.Verdict{Status: api.NotInSync, AsOfTime: &at, Reason: new("items failed")}, 503},
		{api.Verdict{Status: api.Unknown, AsOfTime: &at,
			Reason: new("the parent was not heard when it should have been")}, 503},
	} {
		agent := &fakeAgent{status: api.SyncStatus{
			Verdict: test.verdict, ItemsPending: 2, ItemsFailed: 1,
			Result: &api.RegistrySyncResult{LastSuccessfulSyncEndTime: &at},
		}}
		h := &syncHealth{agent: agent, now: func() time.Time { return at }}
		for range 3 {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
			var a syncAnswer
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
			want := syncAnswer{Verdict: test.verdict, ItemsPending: 2, ItemsFailed: 1, LastSuccess: &at}
			if diff := cmp.Diff(want, a); diff != "" || w.Code != test.code {
				t.Errorf("%d, want %d: %s", w.Code, test.code, diff)
			}
		}
		if agent.asked != 1 {
			t.Errorf("rows were counted %d times for three that asked at once", agent.asked)
		}
	}
}

// rules are mirror rules with the summary that the test sets.
type rules mirror.Summary

func (r rules) Summary(context.Context) (mirror.Summary, error) { return mirror.Summary(r), nil }

func TestRootIsInSyncIfItsMirrorRulesAre(t *testing.T) {
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
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.reason) ||
			strings.Contains(w.Body.String(), `"asOfTime":null`) {
			t.Errorf("%+v: %d %s", c.rules, w.Code, w.Body)
		}
	}
}

func TestDamagedRootIsNotInSync(t *testing.T) {
	h := &syncHealth{rules: rules{}, now: time.Now, damaged: func(context.Context) (int64, error) { return 2, nil }}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/health/sync", nil))
	body := w.Body.String()
	if w.Code != 503 || !strings.Contains(body, `"damaged":2`) ||
		!strings.Contains(body, `"reason":"stored content is damaged"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestSyncHealthSurvivesDisconnectedClients(t *testing.T) {
	h := &syncHealth{
		rules: rules{}, now: time.Now,
		damaged: func(ctx context.Context) (int64, error) { return 0, ctx.Err() },
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, ctx := range []context.Context{gone, t.Context()} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/health/sync", nil))
		if w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}
