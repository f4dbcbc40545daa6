package fleet

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// lastReport is what an instance last said of itself, as its row keeps it.
type lastReport struct {
	SeenAt time.Time   `json:"seenAt,omitzero"` // when that was so, by the clock here
	Status wire.Status `json:"status"`
	Hops   int         `json:"hops,omitempty"` // how many connected registries passed it on
}

func lastReportOf(row metadb.ConnectedRegistry) (lastReport, error) {
	var v lastReport
	if err := json.Unmarshal(row.Status, &v); err != nil {
		return lastReport{}, fmt.Errorf("read status of %s: %w", row.Name, err)
	}
	return v, nil
}

func putLastReport(tx *metadb.Tx, row metadb.ConnectedRegistry, v lastReport) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetConnectedRegistryStatus(row.Name, text, row.InstanceID)
}

// release ends the activation of the instance that holds a row. What it last
// said stays known until another says something.
func release(tx *metadb.Tx, row metadb.ConnectedRegistry) error {
	h, err := lastReportOf(row)
	if err != nil {
		return err
	}
	row.InstanceID = ""
	return putLastReport(tx, row, h)
}

// Report keeps what the connected registry name says of itself and of those
// below it. Implements [gateway.ControlPlane].
func (s *Service) Report(ctx context.Context, name, instance string, r *wire.Report) error {
	quiet := false
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := s.holder(tx, name, instance)
		if err != nil {
			return err
		}
		h, err := lastReportOf(row)
		quiet = r == nil && s.now().Sub(h.SeenAt) < seenEvery
		return err
	})
	if err != nil || quiet {
		return err
	}
	return s.db.Update(ctx, func(tx *metadb.Tx) error {
		row, err := s.holder(tx, name, instance)
		if err != nil {
			return err
		}
		if err := s.putReport(tx, row, r); err != nil || r == nil || len(r.Descendants) == 0 {
			return err
		}
		rows, err := tx.ConnectedRegistries()
		if err != nil {
			return err
		}
		below := treeOf(treeOf(rows).below(row.Name))
		for _, st := range r.Descendants {
			if err := s.putPassedOn(tx, below, st); err != nil {
				return err
			}
		}
		return nil
	})
}

// seenEvery is how often it is written down that a connected registry, which
// has nothing to say, was heard of.
const seenEvery = 20 * time.Second

// holder returns the connected registry name when instance holds it.
func (s *Service) holder(tx *metadb.Tx, name, instance string) (metadb.ConnectedRegistry, error) {
	row, err := s.child(tx, name)
	if err == nil && (row.InstanceID == "" || row.InstanceID != instance) {
		err = gateway.ErrNotActivated
	}
	return row, err
}

// putReport keeps what a child says of itself.
func (s *Service) putReport(tx *metadb.Tx, row metadb.ConnectedRegistry, r *wire.Report) error {
	h, err := lastReportOf(row)
	if err != nil {
		return err
	}
	v, err := control.SpecOf(row)
	if err != nil {
		return err
	}
	h.SeenAt = s.now().UTC()
	if r != nil {
		h.Status = bounded(r.Self)
	} else {
		h.Status.At = h.SeenAt // what it said is still so
	}
	h.Status.Name, h.Status.InstanceID, h.Status.Epoch = row.Name, row.InstanceID, v.Epoch
	return putLastReport(tx, row, h)
}

// putPassedOn keeps what a child passes on of a descendant, which is one of
// below. It is not believed when it is of an activation that was ended here
// since, and not kept when it is known already.
func (s *Service) putPassedOn(tx *metadb.Tx, below tree, st wire.Status) error {
	row, ok := below[strings.ToLower(st.Name)]
	if !ok {
		return nil // it was deleted, and the child does not know yet
	}
	v, err := control.SpecOf(row)
	if err != nil {
		return err
	}
	if st.InstanceID == "" || st.Epoch != v.Epoch {
		return nil
	}
	h, err := lastReportOf(row)
	if err != nil {
		return err
	}
	if row.InstanceID == st.InstanceID && st.At.Equal(h.Status.At) {
		return nil
	}
	row.InstanceID = clip(st.InstanceID, 64)
	st.Name = row.Name
	now := s.now().UTC()
	h = lastReport{SeenAt: now, Status: bounded(st), Hops: 1 + len(below.ancestors(row.Parent))}
	if !st.At.IsZero() && st.At.Before(now) {
		h.SeenAt = st.At.UTC()
	}
	return putLastReport(tx, row, h)
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
	for _, text := range []*string{&st.InstanceID, &st.Version, &st.LoginServer, &st.State, &st.SyncTrigger, &st.SyncState} {
		*text = clip(*text, maxReportText)
	}
	st.Details = slices.Clone(st.Details[:min(len(st.Details), maxDetails)])
	for i := range st.Details {
		d := &st.Details[i]
		d.Type, d.Code, d.Description = clip(d.Type, maxReportText), clip(d.Code, maxReportText), clip(d.Description, maxDetail)
	}
	st.Open = slices.Clone(st.Open[:min(len(st.Open), maxOpen)])
	for i := range st.Open {
		o := &st.Open[i]
		o.Repository, o.Tag, o.Error = clip(o.Repository, maxReportText), clip(o.Tag, maxReportText), clip(o.Error, maxReportText)
		o.Digest, o.Here = digest.Digest(clip(string(o.Digest), maxReportText)), digest.Digest(clip(string(o.Here), maxReportText))
	}
	if len(st.Watermarks) > maxDepth+1 {
		st.Watermarks = nil
	}
	return st
}

func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

// Descendants returns what was last heard of each activated connected
// registry below this instance, for the report to its own parent. Of what is
// open there it has as much as a report can carry.
func (s *Service) Descendants(ctx context.Context) ([]wire.Status, error) {
	var all []wire.Status
	room := maxOpenBelow
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.ConnectedRegistries()
		if err != nil {
			return err
		}
		for _, row := range rows {
			if s.control.IsSelf(row.Name) || row.InstanceID == "" {
				continue
			}
			h, err := lastReportOf(row)
			if err != nil {
				return err
			}
			if h.Status.InstanceID == row.InstanceID {
				h.Status.Open = h.Status.Open[:min(len(h.Status.Open), room)]
				room -= len(h.Status.Open)
				all = append(all, h.Status)
			}
		}
		return nil
	})
	return all, err
}
