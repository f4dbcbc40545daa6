package server

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"ferry/internal/api"
	"ferry/internal/fleet"
	"ferry/internal/mirror"
)

// syncHealthAge is for how long an answer is repeated: anybody may ask, and each
// new answer counts rows.
const syncHealthAge = time.Second

// A syncHealth answers whether this instance is in sync with its parent or, if it
// is a root, with the sources of its mirror rules: 200, or 503 with the reason.
// Anybody may read it, so it has counts and times, and no names.
type syncHealth struct {
	site interface { // nil in a root
		SyncStatus() *api.SyncStatus
	}
	rules interface { // nil in a connected registry
		Summary(context.Context) (mirror.Summary, error)
	}
	damaged func(context.Context) (int64, error) // counts what is out of service; nil is nothing
	now     func() time.Time

	mu   sync.Mutex
	at   time.Time
	last syncAnswer
}

// A syncAnswer is the body of an answer.
type syncAnswer struct {
	api.Verdict
	ItemsPending int        `json:"itemsPending"`
	ItemsFailed  int        `json:"itemsFailed"`
	Damaged      int64      `json:"damaged"`     // blobs and manifests that images need, out of service
	LastSuccess  *time.Time `json:"lastSuccess"` // null is never
}

// ServeHTTP implements [http.Handler].
func (h *syncHealth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The answer is everybody's for a while, and must not depend on one who leaves.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), readyTimeout)
	defer cancel()
	a := h.answer(ctx)
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
	if h.site == nil {
		h.last = h.ofRules(ctx, now)
	} else {
		h.last = h.ofSite()
	}
	h.last.addDamage(ctx, h.damaged)
	return h.last
}

// addDamage adds what is damaged to an answer. An instance with damaged content is not in sync. A
// root without mirror rules, too, can only report it: somebody must push the content again.
func (a *syncAnswer) addDamage(ctx context.Context, count func(context.Context) (int64, error)) {
	if count == nil {
		return
	}
	n, err := count(ctx)
	a.Damaged = n
	switch {
	case !a.InSync:
	case err != nil:
		a.InSync, a.Status, a.Reason = false, api.Unknown, api.Text("what is damaged cannot be read")
	case n > 0:
		a.InSync, a.Status, a.Reason = false, api.NotInSync, api.Text(fleet.ReasonDamaged)
	}
}

// ofRules is the answer of a root.
func (h *syncHealth) ofRules(ctx context.Context, now time.Time) syncAnswer {
	sum, err := h.rules.Summary(ctx)
	a := syncAnswer{
		Verdict:      api.Verdict{Status: api.NotInSync, AsOfTime: api.Time(now)},
		ItemsPending: sum.ItemsPending, ItemsFailed: sum.ItemsFailed, LastSuccess: api.Time(sum.LastSuccess),
	}
	switch {
	case err != nil:
		a.Status, a.Reason = api.Unknown, api.Text("the mirror rules cannot be read")
	case sum.OutOfSync > 0:
		a.Reason = api.Text(fmt.Sprintf("%d of %d mirror rules are not in sync", sum.OutOfSync, sum.Rules))
	default:
		a.Status, a.InSync = api.InSync, true
		if sum.Rules > 0 { // of whose sources nothing is known but by their runs
			a.AsOfTime = a.LastSuccess
		}
	}
	return a
}

// ofSite is the answer of a connected registry.
func (h *syncHealth) ofSite() syncAnswer {
	s := h.site.SyncStatus()
	return syncAnswer{
		Verdict: s.Verdict, ItemsPending: s.ItemsPending, ItemsFailed: s.ItemsFailed,
		LastSuccess: s.Result.LastSuccessfulSyncEndTime,
	}
}
