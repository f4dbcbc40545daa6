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

// syncHealthAge is how long an answer is cached, because anybody may ask, and each new
// answer counts rows.
const syncHealthAge = time.Second

// A syncHealth serves /health/sync: 200 if this instance is in sync with its parent or, in
// a root, with the sources of its mirror rules; else 503 with the reason. Anybody may read
// it, so it has counts and times, but no names.
type syncHealth struct {
	agent interface { // nil in a root
		SyncStatus() *api.SyncStatus
	}
	rules interface { // nil in a connected registry
		Summary(context.Context) (mirror.Summary, error)
	}
	damaged func(context.Context) (int64, error) // counts damaged content; nil is none
	now     func() time.Time

	mu   sync.Mutex
	at   time.Time
	last syncAnswer
}

// A syncAnswer is the body of the response.
type syncAnswer struct {
	api.Verdict
	ItemsPending int        `json:"itemsPending"`
	ItemsFailed  int        `json:"itemsFailed"`
	Damaged      int64      `json:"damaged"`     // damaged blobs and manifests that images need
	LastSuccess  *time.Time `json:"lastSuccess"` // null is never
}

// ServeHTTP implements [http.Handler].
func (h *syncHealth) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Others get the cached answer, so it must not fail because this client disconnects.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), readyTimeout)
	defer cancel()
	a := h.answer(ctx)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !a.InSync {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(a) // fails only if the client disconnected
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
		h.last = h.rootAnswer(ctx, now)
	} else {
		h.last = h.connectedAnswer()
	}
	h.last.addDamage(ctx, h.damaged)
	return h.last
}

// addDamage adds the number of damaged items to an answer. An instance with damaged content
// is not in sync. That includes a root without mirror rules, whose content a person must
// push again.
func (a *syncAnswer) addDamage(ctx context.Context, count func(context.Context) (int64, error)) {
	if count == nil {
		return
	}
	n, err := count(ctx)
	a.Damaged = n
	switch {
	case !a.InSync:
	case err != nil:
		a.InSync, a.Status, a.Reason = false, api.Unknown, api.Text("the list of damaged content cannot be read")
	case n > 0:
		a.InSync, a.Status, a.Reason = false, api.NotInSync, api.Text(fleet.ReasonDamaged)
	}
}

// rootAnswer returns the answer of a root registry.
func (h *syncHealth) rootAnswer(ctx context.Context, now time.Time) syncAnswer {
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
		if sum.Rules > 0 { // their sources are known only as of the last runs
			a.AsOfTime = a.LastSuccess
		}
	}
	return a
}

// connectedAnswer returns the answer of a connected registry.
func (h *syncHealth) connectedAnswer() syncAnswer {
	s := h.agent.SyncStatus()
	return syncAnswer{
		Verdict: s.Verdict, ItemsPending: s.ItemsPending, ItemsFailed: s.ItemsFailed,
		LastSuccess: s.Result.LastSuccessfulSyncEndTime,
	}
}
