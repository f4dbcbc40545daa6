package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"ferry/internal/api"
	"ferry/internal/mirror"
	"ferry/internal/schedule"
	"ferry/internal/wire"
)

// syncPatience is how late a parent may be heard before its connected registry
// counts as out of sync: a link is often down for a while.
const syncPatience = 15 * time.Minute

// syncHealthAge is for how long an answer is repeated: anybody may ask, and each
// new answer counts rows.
const syncHealthAge = time.Second

// A syncHealth answers whether this instance is in sync with its parent or, if it
// is a root, with the sources of its mirror rules: 200, or 503 with the reason.
// Anybody may read it, so it has counts and times, and no names.
type syncHealth struct {
	agent interface { // nil in a root
		Status() *wire.Status
		Heard() time.Time
	}
	rules interface { // nil in a connected registry
		Summary(context.Context) (mirror.Summary, error)
	}
	own     func(context.Context) (*wire.ConnectedRegistry, error)
	damaged func(context.Context) (int64, error) // counts what is out of service; nil is nothing
	now     func() time.Time
	started time.Time

	mu   sync.Mutex
	at   time.Time
	last syncAnswer
}

// A syncAnswer is the body of an answer.
type syncAnswer struct {
	InSync       bool       `json:"inSync"`
	Reason       string     `json:"reason,omitempty"` // why not
	ItemsPending int        `json:"itemsPending"`
	ItemsFailed  int        `json:"itemsFailed"`
	Damaged      int64      `json:"damaged"`     // stored content that is out of service
	LastSuccess  *time.Time `json:"lastSuccess"` // null is never
}

// ServeHTTP implements [http.Handler].
func (h *syncHealth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := h.answer(r.Context())
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !a.InSync {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(a) // a client that went away needs no answer
}

func (h *syncHealth) answer(ctx context.Context) syncAnswer {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if age := now.Sub(h.at); !h.at.IsZero() && age >= 0 && age < syncHealthAge {
		return h.last
	}
	h.at = now
	if h.agent == nil {
		h.last = h.ofRules(ctx)
	} else {
		h.last = h.ofAgent(ctx, now)
	}
	h.last.addDamage(ctx, h.damaged)
	return h.last
}

// addDamage adds what is damaged to an answer.
func (a *syncAnswer) addDamage(ctx context.Context, count func(context.Context) (int64, error)) {
	if count == nil {
		return
	}
	n, err := count(ctx)
	if err != nil && a.InSync {
		a.InSync, a.Reason = false, "what is damaged cannot be read"
	}
	a.Damaged = n
}

// ofRules is the answer of a root.
func (h *syncHealth) ofRules(ctx context.Context) syncAnswer {
	sum, err := h.rules.Summary(ctx)
	a := syncAnswer{
		InSync:       err == nil && sum.OutOfSync == 0,
		ItemsPending: sum.ItemsPending, ItemsFailed: sum.ItemsFailed, LastSuccess: api.Time(sum.LastSuccess),
	}
	switch {
	case err != nil:
		a.Reason = "the mirror rules cannot be read"
	case !a.InSync:
		a.Reason = fmt.Sprintf("%d of %d mirror rules are not in sync", sum.OutOfSync, sum.Rules)
	}
	return a
}

// ofAgent is the answer of a connected registry.
func (h *syncHealth) ofAgent(ctx context.Context, now time.Time) syncAnswer {
	st := h.agent.Status()
	a := syncAnswer{ItemsPending: st.ItemsPending, ItemsFailed: st.ItemsFailed, LastSuccess: api.Time(st.LastSyncSuccess)}
	switch {
	case st.SyncState == "NotActivated":
		a.Reason = "it is not activated at its parent"
	case st.ItemsFailed > 0:
		a.Reason = "items failed"
	case st.ItemsPending > 0:
		a.Reason = "items are still to come, or to go"
	case a.LastSuccess == nil:
		a.Reason = "no sync came to its end yet"
	case st.Paused:
		a.Reason = "syncs are paused"
	case slices.ContainsFunc(st.Details, func(d wire.StatusDetail) bool { return d.Code == "ParentRefuses" }):
		a.Reason = "the parent refuses this registry"
	case h.overdue(ctx, now):
		a.Reason = "the parent was not heard when it should have been"
	default:
		a.InSync = true
	}
	return a
}

// overdue reports whether the parent should have been heard again by now: by the
// end of the first window that opened after it was last heard, and some patience.
func (h *syncHealth) overdue(ctx context.Context, now time.Time) bool {
	own, err := h.own(ctx)
	if err != nil || own == nil {
		return err != nil // the database does not answer
	}
	w, err := schedule.Parse(own.Schedule, own.SyncWindow)
	if err != nil {
		return false // a newer parent's, which this program cannot judge
	}
	since := h.agent.Heard()
	if since.IsZero() {
		since = h.started
	}
	next := w.Next(since)
	return !next.IsZero() && now.After(next.Add(w.Length+syncPatience))
}
