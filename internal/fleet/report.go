package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// lastReport is the last report of one connected registry, in the form in which its row keeps it.
type lastReport struct {
	SeenAt time.Time   `json:"seenAt,omitzero"` // when the registry was last seen, by the clock of this instance
	Status wire.Status `json:"status"`
	Hops   int         `json:"hops,omitempty"` // the number of connected registries that forwarded the report
	history
}

// history is what follows from several reports of one connected registry.
type history struct {
	Since   time.Time `json:"since,omitzero"`   // since when it is not equal to its parent; zero if it is equal
	MovedAt time.Time `json:"movedAt,omitzero"` // when a report last showed progress
	Rate    int64     `json:"rate,omitempty"`   // a running mean of the bytes per second of its syncs
}

// after returns the history after the report v, which follows the report old.
func (h history) after(old, v lastReport) history {
	if hasMoved(old.Status, v.Status) {
		h.MovedAt = v.SeenAt
	}
	switch rate := v.Status.BytesPerSecond; {
	case rate > 0 && h.Rate == 0:
		h.Rate = rate
	case rate > 0:
		h.Rate = max((3*h.Rate+rate)/4, 1)
	}
	return h
}

// hasMoved reports whether a report shows progress since an older one: items or bytes have come, or
// something else happened that explains why they come now.
func hasMoved(old, st wire.Status) bool {
	return st.BytesPerSecond > 0 || st.BytesDone != old.BytesDone || st.ItemsSynced != old.ItemsSynced ||
		st.ItemsPending+st.ItemsFailed != old.ItemsPending+old.ItemsFailed || st.Paused != old.Paused ||
		!st.WindowEnd.Equal(old.WindowEnd) || !maps.Equal(st.Watermarks, old.Watermarks) ||
		hasDetail(st, budgetSpent) != hasDetail(old, budgetSpent) || st.InstanceID != old.InstanceID
}

// reports are the last reports, by connected registry in lower case. Reads come from memory, and
// each report is also written to the database. The time at which an unchanged registry was last
// seen is only in memory until [Service.SaveSeen] writes it.
type reports struct {
	mu      sync.Mutex
	last    map[string]*lastReport // each report is replaced and never changed
	unsaved map[string]bool        // names whose report in memory is newer than in the database
	changed retry.Signal           // a registry reports a change
}

// readReports reads the last reports from the database.
func readReports(tx *metadb.Tx) (map[string]*lastReport, error) {
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return nil, err
	}
	all := map[string]*lastReport{}
	for _, row := range rows {
		v, err := reportOf(row)
		if err != nil {
			return nil, err
		}
		all[strings.ToLower(row.Name)] = &v
	}
	return all, nil
}

// reportOf returns the last report in a row.
func reportOf(row metadb.ConnectedRegistry) (v lastReport, err error) {
	if err := json.Unmarshal(row.Status, &v); err != nil {
		return v, fmt.Errorf("read status of %s: %w", row.Name, err)
	}
	return v, nil
}

// of returns the last report of a connected registry; a zero one if there is none.
func (r *reports) of(name string) lastReport { return *r.at(name) }

// at is [reports.of] without a copy: the caller must not change the report.
func (r *reports) at(name string) *lastReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.atLocked(strings.ToLower(name))
}

func (r *reports) atLocked(name string) *lastReport {
	if v := r.last[name]; v != nil {
		return v
	}
	return &lastReport{}
}

func (r *reports) set(name string, v lastReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name = strings.ToLower(name)
	old := *r.atLocked(name)
	if !reflect.DeepEqual(steady(old.Status), steady(v.Status)) {
		r.changed.Notify()
	}
	written := v.history
	v.history = old.history.after(old, v)
	r.last[name] = &v
	if delete(r.unsaved, name); v.history != written {
		r.unsaved[name] = true
	}
}

// settle records whether a registry is equal to its parent now, or since when it is not.
func (r *reports) settle(name string, equal bool, now time.Time) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.atLocked(name)
	if old.SeenAt.IsZero() || equal == old.Since.IsZero() {
		return
	}
	v := *old
	if v.Since = now.UTC(); equal {
		v.Since = time.Time{}
	}
	r.last[name], r.unsaved[name] = &v, true
}

// steady returns a status without the fields that change all the time.
func steady(st wire.Status) wire.Status {
	st.At, st.BytesTotal, st.BytesDone, st.BytesPerSecond, st.OutOfSync = time.Time{}, 0, 0, 0, nil
	st.BudgetLeft = nil
	return st
}

// ReportsChanged returns a channel that is closed when the state or the watermarks of a descendant
// next change.
func (s *Service) ReportsChanged() <-chan struct{} { return s.reports.changed.Wait() }

// markSeen records that a registry polled without a report.
func (r *reports) markSeen(name string, now time.Time) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := *r.atLocked(name)
	v.SeenAt, v.Status.At = now, now // its last report is still current
	r.last[name], r.unsaved[name] = &v, true
}

// setRefused records a refused login.
func (r *reports) setRefused(name string, login wire.RefusedLogin) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := *r.atLocked(name)
	v.Status.LastRefused = &login
	r.last[name], r.unsaved[name] = &v, true
}

// forgetDeleted drops the reports of deleted connected registries.
func (s *Service) forgetDeleted() {
	s.reports.mu.Lock()
	defer s.reports.mu.Unlock()
	state := s.control.State() // read under the lock, so that it includes every registry in last
	deleted := func(name string) bool { return state.Registry(name) == nil }
	maps.DeleteFunc(s.reports.last, func(name string, _ *lastReport) bool { return deleted(name) })
	maps.DeleteFunc(s.reports.unsaved, func(name string, _ bool) bool { return deleted(name) })
}

// forgetIfDeleted drops the report of one connected registry if that was deleted.
func (s *Service) forgetIfDeleted(name string) {
	name = strings.ToLower(name)
	s.reports.mu.Lock()
	defer s.reports.mu.Unlock()
	if s.control.State().Registry(name) == nil {
		delete(s.reports.last, name)
		delete(s.reports.unsaved, name)
	}
}

// write writes a report to the database.
func (v lastReport) write(tx *metadb.Tx, name string) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetConnectedRegistryStatus(name, text)
}

// SaveSeen writes to the database when connected registries were last seen that have polled without
// a report since their last one.
func (s *Service) SaveSeen(ctx context.Context) error {
	s.reports.mu.Lock()
	unsaved := map[string]lastReport{}
	for name := range s.reports.unsaved {
		unsaved[name] = *s.reports.atLocked(name)
	}
	clear(s.reports.unsaved)
	s.reports.mu.Unlock()
	if len(unsaved) == 0 {
		return nil
	}
	return s.db.Update(ctx, func(tx *metadb.Tx) error {
		for name, v := range unsaved {
			r := s.control.State().Registry(name)
			if r == nil {
				continue
			}
			if s.db.Shared() { // another process may have heard something newer
				stored, err := readReport(tx, name)
				if err != nil {
					return err
				}
				v = v.with(stored)
			}
			if err := v.write(tx, r.Name); err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// Activate binds an instance to the connected registry name, which must be a child of this
// instance. Implements [gateway.ControlPlane].
func (s *Service) Activate(ctx context.Context, name, instance, version, from string) error {
	if r, err := s.child(s.control.State(), name); err != nil || r.InstanceID == instance {
		return err
	}
	var v lastReport
	err := s.control.Change(ctx, func(tx *metadb.Tx) error {
		r, err := s.child(s.control.State(), name) // the state as of this transaction
		if err != nil {
			return err
		}
		if r.InstanceID != "" && r.InstanceID != instance {
			return gateway.ErrAlreadyActivated
		}
		now := s.now().UTC()
		v = lastReport{SeenAt: now, Status: wire.Status{
			Name: r.Name, InstanceID: instance, Epoch: r.Settings.Epoch, Version: terminal.Clip(version, 64),
			State: api.Online, At: now, SyncState: "Pending", LastRefused: s.reports.of(r.Name).Status.LastRefused,
		}}
		if err := v.write(tx, r.Name); err != nil {
			return err
		}
		if err := tx.SetActivation(r.Name, instance); err != nil {
			return err
		}
		by := control.Caller{Name: r.SyncToken, Sender: from}
		return s.control.Audit(tx, by, "activate", "connected-registries/"+r.Name)
	})
	if err == nil {
		s.reports.set(name, v)
	}
	return err
}

// Report stores the report of the connected registry name, a child of this instance, together with
// the reports of its descendants. Implements [gateway.ControlPlane].
func (s *Service) Report(ctx context.Context, name, instance string, r *wire.Report) error {
	state := s.control.State()
	child, err := s.child(state, name)
	if err != nil {
		return err
	}
	if child.InstanceID == "" || child.InstanceID != instance {
		return gateway.ErrNotActivated
	}
	now := s.now().UTC()
	if r == nil {
		s.reports.markSeen(child.Name, now)
		return nil
	}
	v := lastReport{SeenAt: now, Status: truncated(r.Self)}
	v.Status.Name, v.Status.InstanceID, v.Status.Epoch = child.Name, instance, child.Settings.Epoch
	v.Status.LastRefused = s.reports.of(child.Name).Status.LastRefused // only the parent knows it
	received := map[string]lastReport{child.Name: v}
	var moved []string // descendants that another instance has activated
	for _, st := range r.Descendants {
		d, v := s.descendantReport(state, child, st, now, r.Self.At)
		if d == nil {
			continue
		}
		received[d.Name] = v
		if d.InstanceID != v.Status.InstanceID {
			moved = append(moved, d.Name)
		}
	}
	return s.saveReports(ctx, received, moved)
}

// descendantReport returns a descendant of child and its report, which child forwards. SeenAt is
// converted to the clock of this instance: child's clock shows at when the one here shows now. The
// result is nil if the report belongs to an activation that has ended here, or if it is known
// already.
func (s *Service) descendantReport(
	state *control.State, child *control.Registry, st wire.Status, now, at time.Time,
) (*control.Registry, lastReport) {
	d := state.Registry(st.Name)
	if d == nil || st.InstanceID == "" || st.Epoch != d.Settings.Epoch {
		return nil, lastReport{}
	}
	hops := slices.IndexFunc(state.Ancestors(d.Parent), func(r *control.Registry) bool { return r == child })
	if hops < 0 {
		return nil, lastReport{} // it was moved or deleted, and child has not received that change yet
	}
	st.InstanceID, st.Name = terminal.Clip(st.InstanceID, 64), d.Name
	known := s.reports.of(d.Name).Status
	if d.InstanceID == st.InstanceID && st.At.Equal(known.At) && reflect.DeepEqual(st.LastRefused, known.LastRefused) {
		return nil, lastReport{}
	}
	v := lastReport{SeenAt: now, Status: truncated(st), Hops: 1 + hops}
	if age := at.Sub(st.At); !st.At.IsZero() && age > 0 {
		v.SeenAt = now.Add(-age)
	}
	return d, v
}

// saveReports stores reports by name, and activates the descendants in moved.
func (s *Service) saveReports(ctx context.Context, received map[string]lastReport, moved []string) error {
	for name, v := range received {
		old := s.reports.of(name)
		v.history = old.history.after(old, v)
		received[name] = v
	}
	write := func(tx *metadb.Tx) error {
		for name, v := range received {
			if err := v.write(tx, name); err != nil {
				return err
			}
		}
		for _, name := range moved {
			if err := tx.SetActivation(name, received[name].Status.InstanceID); err != nil {
				return err
			}
		}
		return nil
	}
	update := s.db.UpdateTogether
	if len(moved) > 0 {
		update = s.control.Change
	}
	err := update(ctx, write)
	if errors.Is(err, metadb.ErrNotFound) { // it was deleted in between
		err = gateway.ErrUnknown
	}
	if err != nil {
		return err
	}
	for name, v := range received {
		s.reports.set(name, v)
	}
	return nil
}

// Limits on the stored part of a report.
const (
	maxDetails    = 50
	maxOutOfSync  = 50   // items out of sync
	maxOpenBelow  = 1000 // items out of sync in the forwarded reports of all descendants
	maxReportText = 256  // bytes
	maxDetail     = 2000 // bytes, of a detail
)

// truncated returns a copy of a status with its texts and lists cut to the limits.
func truncated(st wire.Status) wire.Status {
	clip(maxReportText, &st.InstanceID, &st.Version, &st.LoginServer, &st.Endpoint, &st.State, &st.SyncTrigger,
		&st.SyncState, &st.CertificateDir)
	st.Details = slices.Clone(st.Details[:min(len(st.Details), maxDetails)])
	for i := range st.Details {
		d := &st.Details[i]
		clip(maxReportText, &d.Type, &d.Code)
		clip(maxDetail, &d.Description)
	}
	st.OutOfSync = slices.Clone(st.OutOfSync[:min(len(st.OutOfSync), maxOutOfSync)])
	for i := range st.OutOfSync {
		o := &st.OutOfSync[i]
		clip(maxReportText, &o.Repository, &o.Tag, &o.Error, (*string)(&o.Digest), (*string)(&o.Here))
	}
	if len(st.Watermarks) > control.MaxDepth+1 {
		st.Watermarks = nil
	}
	if st.LastRefused != nil {
		l := *st.LastRefused
		clip(maxReportText, &l.Sender, &l.Reason)
		st.LastRefused = &l
	}
	return st
}

// clip cuts texts to limit bytes each.
func clip(limit int, texts ...*string) {
	for _, text := range texts {
		*text = terminal.Clip(*text, limit)
	}
}

// Descendants returns the last report of each activated descendant of this instance, for this
// instance's report to its own parent. All reports together list at most maxOpenBelow items out of
// sync.
func (s *Service) Descendants(context.Context) ([]wire.Status, error) {
	var all []wire.Status
	room := maxOpenBelow
	for _, r := range s.control.State().Below(s.control.Self()) {
		last := s.reports.of(r.Name)
		st := last.Status
		st.At = last.SeenAt // by the clock here, like the time of the report that carries it
		if r.InstanceID == "" || st.InstanceID != r.InstanceID {
			continue
		}
		st.OutOfSync = st.OutOfSync[:min(len(st.OutOfSync), room)]
		room -= len(st.OutOfSync)
		all = append(all, st)
	}
	return all, nil
}
