package connected

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// The values of a status, which are the reference's.
const (
	stateOnline    = "Online"
	stateOffline   = "Offline"
	stateUnhealthy = "Unhealthy"
	stateSyncing   = "Syncing" // of the connection, and of the sync
	stateSucceeded = "Succeeded"
	stateFailed    = "Failed"
	statePending   = "Pending"
	stateInactive  = "NotActivated"

	triggerInitial     = "InitialSync"
	triggerRecovery    = "RecoveryService"
	triggerPermissions = "SyncTokenUpdate"
	triggerResync      = "Resync"
)

// countTimeout bounds how long [Agent.Status] waits for the database.
const countTimeout = 5 * time.Second

// maxDetail is how long a detail's description is at most, in bytes.
const maxDetail = 500

// Status returns how this connected registry is now, for its own management
// API; the link need not be up. Where it is not, the state is Offline, and the
// details say so.
func (a *Agent) Status() *wire.Status {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	s, err := a.status(ctx)
	if err != nil {
		a.log.Warn("sync items are not counted", "err", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.trouble; t != nil {
		s.Details = append([]wire.StatusDetail{*t}, s.Details...)
		s.State = stateUnhealthy
		if t.Code == "LinkDown" {
			s.State = stateOffline
		}
	}
	return s
}

// status is [Agent.Status] as a parent is told, which hears it over the very
// link. It returns one in any case; the error is why it has no counts.
func (a *Agent) status(ctx context.Context) (*wire.Status, error) {
	c, now := a.clockwork(), a.now()
	a.mu.Lock()
	m, running := a.memory, a.running != nil
	a.mu.Unlock()
	s := &wire.Status{
		Name: a.name, InstanceID: a.instanceID, Version: a.version, LoginServer: a.loginServer, TLS: a.tls,
		State: stateOnline, At: now.UTC(),
		LastSyncStart: m.SyncStart, LastSyncEnd: m.SyncEnd, LastSyncSuccess: m.SyncSuccess,
		SyncTrigger: m.SyncTrigger, SyncState: m.SyncState, Details: m.Details, Paused: m.Paused,
	}
	if !c.open(now) {
		s.NextSync = c.next(now).UTC()
	}
	switch {
	case running: // which may mend what was wrong
		s.State = stateSyncing
	case len(m.Details) > 0:
		s.State = stateUnhealthy
	}
	if broke, next := m.broke(now); broke {
		s.NextSync = next
		if at := c.next(next.Add(-time.Second)); !c.open(next) && !at.IsZero() {
			s.NextSync = at.UTC()
		}
		description := "the byte budget of " + m.Self.ByteBudget + " is spent; syncs go on in the next period"
		if m.urgency().AnyUrgent() {
			description += ", and of urgent repositories already now"
		}
		s.Details = append(slices.Clip(m.Details), wire.StatusDetail{
			Type: "Sync", Code: "BudgetSpent", Timestamp: later(m.SyncEnd, m.Spent.Since).UTC(), Description: description,
		})
	}
	switch {
	case !m.Activated:
		s.SyncState = stateInactive
	case !running && (s.SyncState == "" || s.SyncState == stateSyncing): // it was, until the power went
		s.SyncState = statePending
	}
	var err error
	s.ItemsSynced, s.ItemsPending, s.ItemsFailed, err = a.engine.Counts(ctx)
	if running || s.ItemsPending+s.ItemsFailed > 0 {
		p := a.engine.Progress()
		s.BytesTotal, s.BytesDone = p.BytesTotal, p.BytesDone
	}
	if running {
		s.BytesPerSecond = a.engine.Rate()
	}
	return s, err
}

// Watermarks returns, for each ancestor's feed, the sequence number up to which
// everything is here. It must not be changed.
func (a *Agent) Watermarks() map[string]int64 { return a.recalled().Whole }

// report is what the parent is told.
func (a *Agent) report(ctx context.Context) (*wire.Report, error) {
	place, err := a.engine.Place(ctx) // before the items: what it covers is among them
	if err != nil {
		return nil, err
	}
	self, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	self.Watermarks = place.Known()
	if self.ItemsPending+self.ItemsFailed > 0 {
		if self.Open, err = a.open(ctx, self.ItemsFailed > 0); err != nil {
			return nil, err
		}
	}
	below, err := a.fleet.Descendants(ctx)
	return &wire.Report{Self: *self, Descendants: below}, err
}

// same reports whether two reports differ in nothing but their time.
func same(a, b *wire.Report) bool {
	x, y := *a, *b
	x.Self.At, y.Self.At = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}

// blame keeps what is wrong after a sync that came to its end: after a good one, nothing.
func (a *Agent) blame(ctx context.Context, o outcome) {
	var details []wire.StatusDetail
	note := func(kind, code, description string) {
		details = append(details, wire.StatusDetail{
			Type: kind, Code: code, Description: shortened(description), Timestamp: a.now().UTC(),
		})
	}
	example, full := "", errors.Is(o.err, oci.ErrNoSpace)
	if o.Failed > 0 {
		var itemFull bool
		example, itemFull = a.failure(ctx)
		full = full || itemFull
	}
	if full {
		note("Disk", "DiskError", oci.ErrNoSpace.Message)
	}
	if o.err != nil {
		note("Sync", "SyncError", o.err.Error())
	}
	if o.Failed > 0 {
		note("Sync", "ItemsFailed", fmt.Sprintf("items that are not synced: %d%s", o.Failed, example))
	}
	a.remember(ctx, func(m *memory) { m.Details = details })
}

// shortened is a detail's description, no longer than a report can have.
func shortened(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), maxDetail)], "")
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// failure describes one of the items that failed, and reports whether a full
// disk is why any did.
func (a *Agent) failure(ctx context.Context) (example string, full bool) {
	repository, item := "", ""
	for {
		all, err := a.engine.Items(ctx, repository, item, 1000)
		if err != nil || len(all) == 0 {
			return example, full
		}
		for _, i := range all {
			repository, item = i.Repository, i.Item
			if i.State != replication.Failed {
				continue
			}
			full = full || strings.Contains(i.Error, oci.ErrNoSpace.Message)
			if example == "" {
				example = fmt.Sprintf("; %s %s: %s", i.Repository, i.Item, i.Error)
			}
		}
	}
}
