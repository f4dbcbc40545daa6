package connected

import (
	"context"
	"errors"
	"fmt"
	"reflect"
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
	a.mu.Lock()
	m, running, details := a.memory, a.running, a.details
	a.mu.Unlock()
	s := &gateway.Status{
		Name: a.name, InstanceID: a.control.InstanceID(), Version: a.version, LoginServer: a.loginServer, TLS: a.tls,
		State: stateOnline, At: a.now().UTC(),
		LastSyncStart: m.SyncStart, LastSyncEnd: m.SyncEnd, LastSyncSuccess: m.SyncSuccess,
		SyncTrigger: m.SyncTrigger, SyncState: m.SyncState, Details: details,
	}
	switch {
	case len(details) > 0:
		s.State = stateUnhealthy
	case running:
		s.State = stateSyncing
	}
	switch {
	case !m.Activated:
		s.SyncState = stateInactive
	case !running && (s.SyncState == "" || s.SyncState == stateSyncing): // it was, until the power went
		s.SyncState = statePending
	}
	var err error
	s.ItemsSynced, s.ItemsPending, s.ItemsFailed, err = a.engine.Counts(ctx)
	return s, err
}

// report is what the parent is told.
func (a *Agent) report(ctx context.Context) (*gateway.Report, error) {
	self, err := a.status(ctx)
	if err != nil {
		return nil, err
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

func (a *Agent) setRunning(running bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running = running
}

// blame keeps what is wrong after a sync that came to its end: after a good one, nothing.
func (a *Agent) blame(ctx context.Context, o outcome) {
	var details []gateway.StatusDetail
	note := func(kind, code, description string) {
		details = append(details, gateway.StatusDetail{
			Type: kind, Code: code, Description: description[:min(len(description), maxDetail)], Timestamp: a.now().UTC(),
		})
	}
	switch {
	case errors.Is(o.err, oci.ErrNoSpace):
		note("Disk", "DiskError", o.err.Error())
	case o.err != nil:
		note("Sync", "SyncError", o.err.Error())
	case o.Failed > 0:
		note("Sync", "ItemsFailed", fmt.Sprintf("%d items are not synced%s", o.Failed, a.example(ctx)))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.details = details
}

// example describes one of the items that failed.
func (a *Agent) example(ctx context.Context) string {
	repository, item := "", ""
	for {
		all, err := a.engine.Items(ctx, repository, item, 1000)
		if err != nil || len(all) == 0 {
			return ""
		}
		for _, i := range all {
			if i.State == replication.Failed {
				return fmt.Sprintf("; %s %s: %s", i.Repository, name(i), i.Err)
			}
			repository, item = i.Repository, name(i)
		}
	}
}

// name is the item's tag, or its digest where it has none.
func name(i replication.Item) string {
	if i.Tag != "" {
		return i.Tag
	}
	return string(i.Digest)
}
