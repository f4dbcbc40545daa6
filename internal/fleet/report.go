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

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// lastReport is what an instance last said of itself, as its row keeps it.
type lastReport struct {
	SeenAt time.Time   `json:"seenAt,omitzero"` // when that was so, by the clock here
	Status wire.Status `json:"status"`
	Hops   int         `json:"hops,omitempty"` // how many connected registries passed it on
}

// reports are the last reports, by connected registry in lower case. They are
// read from memory, and written to the database as they come; when a registry
// that has nothing to say was last seen is written by [Service.SaveSeen].
type reports struct {
	mu      sync.Mutex
	last    map[string]lastReport
	unsaved map[string]bool // of which SeenAt is newer than in the database
}

// readReports reads the last reports from the database.
func readReports(tx *metadb.Tx) (map[string]lastReport, error) {
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return nil, err
	}
	all := map[string]lastReport{}
	for _, row := range rows {
		var v lastReport
		if err := json.Unmarshal(row.Status, &v); err != nil {
			return nil, fmt.Errorf("read status of %s: %w", row.Name, err)
		}
		all[strings.ToLower(row.Name)] = v
	}
	return all, nil
}

func (r *reports) of(name string) lastReport {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last[strings.ToLower(name)]
}

func (r *reports) set(name string, v lastReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last[strings.ToLower(name)] = v
	delete(r.unsaved, strings.ToLower(name))
}

// seen notes that a connected registry was heard, and had nothing to say.
func (r *reports) seen(name string, now time.Time) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.last[name]
	v.SeenAt, v.Status.At = now, now // what it said is still so
	r.last[name], r.unsaved[name] = v, true
}

// refused notes that a login was refused.
func (r *reports) refused(name string, login wire.RefusedLogin) {
	name = strings.ToLower(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.last[name]
	v.Status.LastRefused = &login
	r.last[name], r.unsaved[name] = v, true
}

// forgetDeleted forgets the reports of connected registries that are no more.
func (s *Service) forgetDeleted() {
	s.reports.mu.Lock()
	defer s.reports.mu.Unlock()
	state := s.control.State() // with the lock held, so that it has every one that has reported
	deleted := func(name string) bool { return state.Registry(name) == nil }
	maps.DeleteFunc(s.reports.last, func(name string, _ lastReport) bool { return deleted(name) })
	maps.DeleteFunc(s.reports.unsaved, func(name string, _ bool) bool { return deleted(name) })
}

// write writes a report to the database.
func (v lastReport) write(tx *metadb.Tx, name string) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetConnectedRegistryStatus(name, text)
}

// SaveSeen writes down when connected registries were last seen that have had
// nothing to say since.
func (s *Service) SaveSeen(ctx context.Context) error {
	s.reports.mu.Lock()
	unsaved := map[string]lastReport{}
	for name := range s.reports.unsaved {
		unsaved[name] = s.reports.last[name]
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
			if err := v.write(tx, r.Name); err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// Activate binds an instance to the connected registry name, which is right
// below this one. Implements [gateway.ControlPlane].
func (s *Service) Activate(ctx context.Context, name, instance, version string) error {
	if r, err := s.child(s.control.State(), name); err != nil || r.InstanceID == instance {
		return err
	}
	var v lastReport
	err := s.control.Change(ctx, func(tx *metadb.Tx) error {
		r, err := s.child(s.control.State(), name) // as it is in this transaction
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
		return s.control.Audit(tx, control.Caller{Name: r.SyncToken}, "activate", "connected-registries/"+r.Name)
	})
	if err == nil {
		s.reports.set(name, v)
	}
	return err
}

// Report keeps what the connected registry name says of itself and of those
// below it. Implements [gateway.ControlPlane].
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
		s.reports.seen(child.Name, now)
		return nil
	}
	v := lastReport{SeenAt: now, Status: bounded(r.Self)}
	v.Status.Name, v.Status.InstanceID, v.Status.Epoch = child.Name, instance, child.Settings.Epoch
	v.Status.LastRefused = s.reports.of(child.Name).Status.LastRefused // it cannot know
	said := map[string]lastReport{child.Name: v}
	var moved []string // descendants that another instance holds now
	for _, st := range r.Descendants {
		below, v := s.passedOn(state, child, st, now, r.Self.At)
		if below == nil {
			continue
		}
		said[below.Name] = v
		if below.InstanceID != v.Status.InstanceID {
			moved = append(moved, below.Name)
		}
	}
	return s.putReports(ctx, said, moved)
}

// passedOn returns a descendant of child and what child passes on of it, whose
// clock says at where the one here says now; nil where that is of an activation
// that was ended here since, or known already.
func (s *Service) passedOn(
	state *control.State, child *control.Registry, st wire.Status, now, at time.Time,
) (*control.Registry, lastReport) {
	below := state.Registry(st.Name)
	if below == nil || st.InstanceID == "" || st.Epoch != below.Settings.Epoch {
		return nil, lastReport{}
	}
	hops := slices.IndexFunc(state.Ancestors(below.Parent), func(r *control.Registry) bool { return r == child })
	if hops < 0 {
		return nil, lastReport{} // it was moved or deleted, and child does not know yet
	}
	st.InstanceID, st.Name = terminal.Clip(st.InstanceID, 64), below.Name
	had := s.reports.of(below.Name).Status
	if below.InstanceID == st.InstanceID && st.At.Equal(had.At) && reflect.DeepEqual(st.LastRefused, had.LastRefused) {
		return nil, lastReport{}
	}
	v := lastReport{SeenAt: now, Status: bounded(st), Hops: 1 + hops}
	if age := at.Sub(st.At); !st.At.IsZero() && age > 0 {
		v.SeenAt = now.Add(-age)
	}
	return below, v
}

// putReports keeps reports, by name, and who holds those that moved.
func (s *Service) putReports(ctx context.Context, said map[string]lastReport, moved []string) error {
	write := func(tx *metadb.Tx) error {
		for name, v := range said {
			if err := v.write(tx, name); err != nil {
				return err
			}
		}
		for _, name := range moved {
			if err := tx.SetActivation(name, said[name].Status.InstanceID); err != nil {
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
	if errors.Is(err, metadb.ErrNotFound) { // deleted meanwhile
		err = gateway.ErrUnknown
	}
	if err != nil {
		return err
	}
	for name, v := range said {
		s.reports.set(name, v)
	}
	return nil
}

// Limits on what is kept of a report.
const (
	maxDetails    = 50
	maxOpen       = 50   // items that are not in sync
	maxOpenBelow  = 1000 // of these, in what is passed on of all descendants
	maxReportText = 256  // bytes
	maxDetail     = 2000 // bytes, of a detail
)

// bounded returns a status cut to what is kept.
func bounded(st wire.Status) wire.Status {
	for _, text := range []*string{&st.InstanceID, &st.Version, &st.LoginServer, &st.State, &st.SyncTrigger,
		&st.SyncState} {
		*text = terminal.Clip(*text, maxReportText)
	}
	st.Details = slices.Clone(st.Details[:min(len(st.Details), maxDetails)])
	for i := range st.Details {
		d := &st.Details[i]
		d.Type, d.Code, d.Description = terminal.Clip(d.Type, maxReportText), terminal.Clip(d.Code, maxReportText), terminal.Clip(d.Description,
			maxDetail)
	}
	st.Open = slices.Clone(st.Open[:min(len(st.Open), maxOpen)])
	for i := range st.Open {
		o := &st.Open[i]
		o.Repository, o.Tag, o.Error = terminal.Clip(o.Repository, maxReportText), terminal.Clip(o.Tag, maxReportText), terminal.Clip(o.Error,
			maxReportText)
		o.Digest, o.Here = digest.Digest(terminal.Clip(string(o.Digest), maxReportText)), digest.Digest(terminal.Clip(string(o.Here),
			maxReportText))
	}
	if len(st.Watermarks) > control.MaxDepth+1 {
		st.Watermarks = nil
	}
	if l := st.LastRefused; l != nil {
		st.LastRefused = &wire.RefusedLogin{At: l.At, From: terminal.Clip(l.From, maxReportText),
			Why: terminal.Clip(l.Why, maxReportText)}
	}
	return st
}

// Descendants returns what was last heard of each activated connected
// registry below this instance, for the report to its own parent. Of what is
// open there it has as much as a report can carry.
func (s *Service) Descendants(context.Context) ([]wire.Status, error) {
	var all []wire.Status
	room := maxOpenBelow
	for _, r := range s.control.State().Below(s.control.Self()) {
		last := s.reports.of(r.Name)
		st := last.Status
		st.At = last.SeenAt // by the clock here, as that of the report is
		if r.InstanceID == "" || st.InstanceID != r.InstanceID {
			continue
		}
		st.Open = st.Open[:min(len(st.Open), room)]
		room -= len(st.Open)
		all = append(all, st)
	}
	return all, nil
}
