package fleet

import (
	"errors"
	"reflect"

	"ferry/internal/metadb"
)

// Follow brings the reports in memory to those that tx sees, after other processes have made changes.
// The state of the control plane must include these already.
func (s *Service) Follow(tx *metadb.Tx, c metadb.Changes) error {
	if c.All {
		all, err := readReports(tx)
		for name, v := range all {
			s.reports.merge(name, *v)
		}
		s.forgetDeleted()
		return err
	}
	for _, name := range c.Names(metadb.ReportTopic) {
		v, err := readReport(tx, name)
		if err != nil {
			return err
		}
		if s.control.State().Registry(name) != nil {
			s.reports.merge(name, v)
		}
	}
	for _, row := range c.ControlRows() {
		if row.Table == metadb.ConnectedRegistryRow {
			s.forgetIfDeleted(row.Name)
		}
	}
	return nil
}

// readReport reads the last report of a connected registry; a zero one if there is none.
func readReport(tx *metadb.Tx, name string) (lastReport, error) {
	row, err := tx.ConnectedRegistry(name)
	if errors.Is(err, metadb.ErrNotFound) {
		return lastReport{}, nil
	}
	if err != nil {
		return lastReport{}, err
	}
	return reportOf(row)
}

// merge adds what another process has stored of a connected registry. name is in lower case.
func (r *reports) merge(name string, stored lastReport) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := *r.atLocked(name)
	v := stored
	if r.unsaved[name] {
		v = old.with(stored)
	}
	r.last[name] = &v
	if !reflect.DeepEqual(steady(old.Status), steady(v.Status)) {
		r.changed.Notify()
	}
}

// with returns the later of two reports of the same connected registry, with the later of their refused
// logins: a process that has seen the registry last has known all earlier reports.
func (v lastReport) with(stored lastReport) lastReport {
	refused := v.Status.LastRefused
	if l := stored.Status.LastRefused; l != nil && (refused == nil || l.At.After(refused.At)) {
		refused = l
	}
	if stored.SeenAt.After(v.SeenAt) {
		v = stored
	}
	v.Status.LastRefused = refused
	return v
}
