package connected

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/oci"
	"ferry/internal/replication"
)

// The values of a status, which are the reference's.
const (
	stateOnline    = "Online"
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
// API; the link need not be up.
func (a *Agent) Status() *gateway.Status {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	s, err := a.status(ctx)
	if err != nil {
		a.log.Warn("sync items are not counted", "err", err)
	}
	return s
}

// status returns a status in any case; the error is why it has no counts.
func (a *Agent) status(ctx context.Context) (*gateway.Status, error) {
	c, now := a.clockwork(), a.now()
	a.mu.Lock()
	m, running, details := a.memory, a.running != nil, a.details
	a.mu.Unlock()
	s := &gateway.Status{
		Name: a.name, InstanceID: a.control.InstanceID(), Version: a.version, LoginServer: a.loginServer, TLS: a.tls,
		State: stateOnline, At: now.UTC(),
		LastSyncStart: m.SyncStart, LastSyncEnd: m.SyncEnd, LastSyncSuccess: m.SyncSuccess,
		SyncTrigger: m.SyncTrigger, SyncState: m.SyncState, Details: details, Paused: m.Paused,
	}
	if !c.open(now) {
		s.NextSync = c.next(now).UTC()
	}
	switch {
	case len(details) > 0:
		s.State = stateUnhealthy
	case running:
		s.State = stateSyncing
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
		s.Details = append(slices.Clip(details), gateway.StatusDetail{
			Type: "Sync", Code: "BudgetSpent", Timestamp: m.SyncEnd.UTC(), Description: description,
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

// report is what the parent is told.
func (a *Agent) report(ctx context.Context) (*gateway.Report, error) {
	self, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	if self.ItemsPending+self.ItemsFailed > 0 {
		if self.Open, err = a.open(ctx, self.ItemsFailed > 0); err != nil {
			return nil, err
		}
	}
	below, err := a.control.Descendants(ctx)
	return &gateway.Report{Self: *self, Descendants: below}, err
}

// same reports whether two reports differ in nothing but their time.
func same(a, b *gateway.Report) bool {
	x, y := *a, *b
	x.Self.At, y.Self.At = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}

// blame keeps what is wrong after a sync that came to its end: after a good one, nothing.
func (a *Agent) blame(ctx context.Context, o outcome) {
	var details []gateway.StatusDetail
	note := func(kind, code, description string) {
		details = append(details, gateway.StatusDetail{
			Type: kind, Code: code, Description: strings.ToValidUTF8(description[:min(len(description), maxDetail)], ""), Timestamp: a.now().UTC(),
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
		note("Sync", "ItemsFailed", fmt.Sprintf("%d items are not synced%s", o.Failed, example))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.details = details
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
			repository, item = i.Repository, i.Name
			if i.State != replication.Failed {
				continue
			}
			full = full || strings.Contains(i.Err, oci.ErrNoSpace.Message)
			if example == "" {
				example = fmt.Sprintf("; %s %s: %s", i.Repository, i.Name, i.Err)
			}
		}
	}
}
