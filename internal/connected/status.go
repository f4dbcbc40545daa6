package connected

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/terminal"
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
	stateTimedOut  = "TimedOut" // the sync window closed first
	stateInactive  = "NotActivated"

	triggerInitial     = "InitialSync"
	triggerRecovery    = "RecoveryService"
	triggerPermissions = "SyncTokenUpdate"
	triggerResync      = "ManualResync"
)

// countTimeout bounds how long [Agent.Status] waits for the database.
const countTimeout = 5 * time.Second

// maxDetail is the longest description of a detail, in bytes.
const maxDetail = 500

// Status returns the current status, for this instance's own management API. If
// the link is down, the state is Offline, and the details say why.
func (a *Agent) Status() *wire.Status {
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	s, _, err := a.status(ctx)
	if err != nil {
		a.log.Warn("sync items are not counted", "err", err)
		s.State = stateUnhealthy
		s.Details = append(slices.Clip(s.Details), wire.StatusDetail{
			Type: "Sync", Code: "SyncError", Timestamp: a.now().UTC(),
			Description: "this registry's own database does not answer: nobody knows what is in sync",
		})
	}
	if t := a.link.current(); t != nil {
		s.Details = append([]wire.StatusDetail{*t}, s.Details...)
		s.State = stateUnhealthy
		if t.Code == codeLinkDown {
			s.State, s.BytesPerSecond = stateOffline, 0 // the rate is that before the link went down
		}
	}
	return s
}

// status is [Agent.Status] for the report. It says nothing of the link, because the
// report arrives only if the link is up. It also returns the engine's position, which
// has the watermarks. With an error, the status has no counts and no watermarks.
func (a *Agent) status(ctx context.Context) (*wire.Status, replication.Position, error) {
	w, now := a.windows(), a.now()
	a.mu.Lock()
	st, running := a.state, a.stopSync != nil
	a.mu.Unlock()
	o := a.options
	s := &wire.Status{
		Name: o.Name, InstanceID: o.InstanceID, Version: o.Version, LoginServer: o.LoginServer, TLS: o.TLS,
		CertificateDir: o.CertificateDir,
		Endpoint:       o.Endpoint,
		State:          stateOnline, At: now.UTC(),
		LastSyncStart: st.SyncStart, LastSyncEnd: st.SyncEnd, LastSyncSuccess: st.SyncSuccess,
		SyncTrigger: st.SyncTrigger, SyncState: st.SyncState, Resync: st.Resync, Details: st.Details, Paused: st.Paused,
	}
	if open, _ := w.Open(now); !open {
		s.NextSync = w.Next(now).UTC()
	}
	s.WindowEnd = w.extraEnd(now).UTC()
	s.BudgetLeft = st.budgetLeft(now)
	switch {
	case running: // it may solve the problems in the details
		s.State = stateSyncing
	case len(st.Details) > 0:
		s.State = stateUnhealthy
	}
	if spent, next := st.budgetSpent(now); spent {
		s.NextSync = next
		at := w.Next(next.Add(-time.Second))
		if open, _ := w.Open(next); !open && !at.IsZero() {
			s.NextSync = at.UTC()
		}
		description := "the byte budget of " + st.Self.ByteBudget + " is spent; syncs go on in the next period"
		if st.priorities().AnyUrgent() {
			description += ", and of urgent repositories already now"
		}
		since := slices.MaxFunc([]time.Time{st.SyncEnd, st.Spent.Since}, time.Time.Compare)
		s.Details = append(slices.Clip(st.Details), wire.StatusDetail{
			Type: "Sync", Code: "BudgetSpent", Timestamp: since.UTC(), Description: description,
		})
	}
	if d := gapDetail(st.Self, now); d != nil {
		s.Details = append(slices.Clip(s.Details), *d)
	}
	if d := a.clock.detail(); d != nil {
		s.Details = append(slices.Clip(s.Details), *d)
	}
	if d := a.credentials.Detail(a.rotateEvery()); d != nil {
		s.Details = append(slices.Clip(s.Details), *d)
	}
	damage, err := a.damage(ctx)
	if damage != nil {
		s.Details = append(slices.Clip(s.Details), *damage)
		if s.State == stateOnline {
			s.State = stateUnhealthy
		}
	}
	err = errors.Join(err, a.addBacklog(ctx, s))
	switch {
	case !st.Activated:
		s.SyncState = stateInactive
	case !running && (s.SyncState == "" || s.SyncState == stateSyncing): // the power was lost during a sync
		s.SyncState = statePending
	}
	position, positionErr := a.engine.Position(ctx) // first, so that the counts include all that it covers
	var countErr error
	s.ItemsSynced, s.ItemsPending, s.ItemsFailed, countErr = a.engine.Counts(ctx)
	if err = errors.Join(err, positionErr, countErr); err == nil {
		s.Watermarks = position.Known()
	}
	if running || s.ItemsPending+s.ItemsFailed > 0 {
		p := a.engine.Progress()
		s.BytesTotal, s.BytesDone = p.BytesTotal, p.BytesDone
		if err == nil {
			s.ItemsUnplanned, err = a.engine.ItemsUnplanned(ctx)
		}
	}
	if running {
		s.BytesPerSecond = a.engine.Rate()
	}
	return s, position, err
}

// damage returns how much content is damaged; nil is none.
func (a *Agent) damage(ctx context.Context) (*wire.StatusDetail, error) {
	sum, err := metadb.Read(ctx, a.options.DB, (*metadb.Tx).TotalOfDamages)
	if err != nil || sum.Count == 0 {
		return nil, err
	}
	return &wire.StatusDetail{
		Type: "Disk", Code: wire.Damaged, Timestamp: sum.Latest.UTC(),
		Description: fmt.Sprintf("damaged and out of service: %d blobs or manifests; those that the parent has are "+
			"fetched again (ferry verify --show lists them)", sum.Count),
	}, nil
}

// Watermarks returns, for each ancestor's feed, the sequence number up to which
// everything is here, and the items that are not, because they fail permanently, or because a client
// changed them here and the parent does not have that yet.
// The results must not be changed.
func (a *Agent) Watermarks() (map[string]int64, []wire.OutOfSyncItem) {
	st := a.current()
	if a.outbox == nil {
		return st.Watermarks, st.Lacking
	}
	var unsent []wire.OutOfSyncItem
	err := a.options.DB.View(context.Background(), func(tx *metadb.Tx) (err error) {
		unsent, err = a.unsentItems(tx, maxOutOfSync+1)
		return err
	})
	if err != nil || len(st.Lacking)+len(unsent) > maxOutOfSync {
		return nil, nil // it is not known, or too much to say, what is not as the ancestors have it
	}
	if len(unsent) == 0 {
		return st.Watermarks, st.Lacking
	}
	for i := range unsent {
		unsent[i].Error = "it was changed there, and its parent does not have the change yet"
	}
	return st.Watermarks, append(unsent, st.Lacking...)
}

// WatermarksChanged returns a channel that is closed when the results of
// [Agent.Watermarks] next change.
func (a *Agent) WatermarksChanged() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.moved
}

// setWatermarks saves the results of [Agent.Watermarks].
func (a *Agent) setWatermarks(ctx context.Context, watermarks map[string]int64, lacking []wire.OutOfSyncItem) {
	a.update(ctx, func(st *state) {
		st.Watermarks, st.Lacking = watermarks, lacking
	})
	a.notifyWatermarks()
}

// notifyWatermarks tells those who wait that the results of [Agent.Watermarks] have changed.
func (a *Agent) notifyWatermarks() {
	a.mu.Lock()
	defer a.mu.Unlock()
	close(a.moved)
	a.moved = make(chan struct{})
}

// report returns the report for the parent.
func (a *Agent) report(ctx context.Context) (*wire.Report, error) {
	self, position, err := a.status(ctx)
	if err != nil {
		return nil, err
	}
	if self.ItemsPending+self.ItemsFailed+self.ItemsToSend > 0 {
		if self.OutOfSync, err = a.outOfSync(ctx); err != nil {
			return nil, err
		}
	}
	addLacking(self, position.Lacking)
	below, err := a.options.Fleet.Descendants(ctx)
	return &wire.Report{Self: *self, Descendants: below}, err
}

// sameReport returns true if two reports differ only in their time.
func sameReport(a, b *wire.Report) bool {
	x, y := *a, *b
	x.Self.At, y.Self.At = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}

// recordFailures saves the failures of a sync that was not stopped, in place of
// those of an earlier one.
func (a *Agent) recordFailures(ctx context.Context, o outcome) {
	example, full := "", diskIsFull(o.err)
	if o.Failed > 0 {
		noSpace, err := metadb.Read(ctx, a.options.DB, func(tx *metadb.Tx) (bool, error) {
			failed, err := tx.SyncItems(metadb.Parent, metadb.FailedSyncItem, "", "", 1)
			if err != nil {
				return false, err
			}
			if len(failed) > 0 {
				example = fmt.Sprintf("; %s %s: %s", failed[0].Repository, failed[0].Item, failed[0].Error)
			}
			return tx.SyncItemFailedWith(metadb.Parent, oci.ErrNoSpace.Message)
		})
		if err != nil {
			a.log.Warn("items that failed are not read", "err", err)
		}
		full = full || noSpace
	}
	details := failuresOf(o, example, full)
	for i := range details {
		details[i].Timestamp = a.now().UTC()
	}
	a.update(ctx, func(s *state) { s.Details = details })
}

// diskIsFull returns true if err is that this instance's disk is full.
func diskIsFull(err error) bool { return errors.Is(err, oci.ErrNoSpace) || metadb.IsFull(err) }

// failuresOf returns the details for the status after a sync. The example is a
// failed item, in words. A full disk is reported once, however many items failed
// because of it.
func failuresOf(o outcome, example string, full bool) (details []wire.StatusDetail) {
	add := func(kind, code, description string) {
		details = append(details, wire.StatusDetail{Type: kind, Code: code, Description: clipDetail(description)})
	}
	if full {
		add("Disk", "DiskError", cmp.Or(o.DiskFull(), oci.ErrNoSpace.Message))
	}
	if o.err != nil && !diskIsFull(o.err) {
		add("Sync", "SyncError", o.err.Error())
	}
	if o.Failed > 0 {
		if full && strings.Contains(example, oci.ErrNoSpace.Message) {
			example = ""
		}
		add("Sync", "ItemsFailed", fmt.Sprintf("items that are not synced: %d%s", o.Failed, example))
	}
	return details
}

// clipDetail returns a detail's description, cut to the length that a report may
// have.
func clipDetail(text string) string {
	return terminal.Clip(text, maxDetail)
}
