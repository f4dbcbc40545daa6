package fleet

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// Activate binds an instance to the connected registry name, which is right
// below this one. Implements [gateway.ControlPlane].
func (s *Service) Activate(ctx context.Context, name, instance, version string) error {
	return s.control.Update(ctx, func(tx *metadb.Tx) error {
		row, err := s.child(tx, name)
		if err != nil {
			return err
		}
		if row.InstanceID == instance {
			return nil
		}
		if row.InstanceID != "" {
			return gateway.ErrAlreadyActivated
		}
		v, err := control.SpecOf(row)
		if err != nil {
			return err
		}
		row.InstanceID = instance
		now := s.now().UTC()
		h := heard{SeenAt: now, Status: wire.Status{
			Name: row.Name, InstanceID: instance, Epoch: v.Epoch, Version: clip(version, 64), State: api.Online, At: now, SyncState: "Pending",
		}}
		if err := putHeard(tx, row, h); err != nil {
			return err
		}
		return s.control.Audit(tx, control.Caller{Name: row.SyncToken}, "activate", "connected-registries/"+row.Name)
	})
}

// Report keeps what the connected registry name, which knew of everything in
// the feed up to cursor, says of itself and of those below it. Implements
// [gateway.ControlPlane].
func (s *Service) Report(ctx context.Context, name, instance string, cursor int64, r *wire.Report) error {
	quiet := false
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := s.holder(tx, name, instance)
		if err != nil {
			return err
		}
		h, err := heardOf(row)
		quiet = r == nil && s.now().Sub(h.SeenAt) < seenEvery
		return err
	})
	if err != nil || quiet {
		return err
	}
	return s.control.Update(ctx, func(tx *metadb.Tx) error {
		row, err := s.holder(tx, name, instance)
		if err != nil {
			return err
		}
		rows, err := tx.ConnectedRegistries() // before anything of the report is noted
		if err != nil {
			return err
		}
		if err := s.note(tx, row, cursor, r); err != nil || r == nil {
			return err
		}
		known := treeOf(rows)
		below := treeOf(known.below(row.Name))
		said := map[string]string{strings.ToLower(row.Name): clip(r.Self.Reach, maxReportText)}
		for _, st := range r.Descendants {
			said[strings.ToLower(st.Name)] = clip(st.Reach, maxReportText)
		}
		for _, st := range r.Descendants {
			if err := s.noteBelow(tx, known, below, said, st); err != nil {
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

// note keeps what a child says of itself. A cursor that the feed has not come
// to is one of another feed, and says nothing.
func (s *Service) note(tx *metadb.Tx, row metadb.ConnectedRegistry, cursor int64, r *wire.Report) error {
	_, head, err := tx.FeedBounds()
	if err != nil {
		return err
	}
	if cursor > head {
		cursor = 0
	}
	h, err := heardOf(row)
	if err != nil {
		return err
	}
	v, err := control.SpecOf(row)
	if err != nil {
		return err
	}
	h.SeenAt, h.Cursor = s.now().UTC(), cursor
	if r != nil {
		h.Status = bounded(r.Self)
	} else {
		h.Status.At = h.SeenAt // what it said is still so
	}
	h.Status.Name, h.Status.InstanceID, h.Status.Epoch = row.Name, row.InstanceID, v.Epoch
	reach, err := reachOf(tx, row, v)
	if err != nil {
		return err
	}
	h.follows(reach)
	return putHeard(tx, row, h)
}

// noteBelow keeps what a child passes on of a descendant. It is not believed
// when it is of an activation that was ended here since. known is what was
// heard of all before this report.
//
// A descendant reads the feed of its own parent, so how much it knows of what
// is in the feed here follows from the order of reports. What it says now it
// said after the report before this one was made. If its parent had everything
// up to a place then, it was told of that with the answer, and knows of it in
// what it says next. That is of what those above it followed: where they follow
// something else by this report, which said has, nothing is known any more.
func (s *Service) noteBelow(tx *metadb.Tx, known, below tree, said map[string]string, st wire.Status) error {
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
	h, err := heardOf(row)
	if err != nil {
		return err
	}
	if row.InstanceID == st.InstanceID && st.At.Equal(h.Status.At) {
		return nil // it is known already
	}
	parent, err := heardOf(known[strings.ToLower(row.Parent)])
	if err != nil {
		return err
	}
	if row.InstanceID != st.InstanceID {
		h = heard{}
	}
	row.InstanceID = clip(st.InstanceID, 64)
	st.Name = row.Name
	now := s.now().UTC()
	seen := now
	if !st.At.IsZero() && st.At.Before(now) {
		seen = st.At.UTC()
	}
	reach, err := reachOf(tx, row, v)
	if err != nil {
		return err
	}
	via := known.ancestors(row.Parent)
	via = via[:len(below.ancestors(row.Parent))+1]
	was, is, err := followedBy(via, said)
	if err != nil {
		return err
	}
	if h.Above != is {
		h.Next = 0
	}
	h.Cursor = h.Next
	if was == is {
		h.Next = max(h.Next, parent.whole())
	}
	h.SeenAt, h.Status, h.Via, h.Above = seen, bounded(st), len(via), is
	h.follows(reach)
	return putHeard(tx, row, h)
}

// followedBy returns what rows followed, by what was last heard of them, and
// what they follow by what was said since.
func followedBy(rows []metadb.ConnectedRegistry, said map[string]string) (was, is string, err error) {
	for _, row := range rows {
		h, err := heardOf(row)
		if err != nil {
			return "", "", err
		}
		was, is = was+" "+h.Status.Reach, is+" "+said[strings.ToLower(row.Name)]
	}
	return was, is, nil
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
	for _, text := range []*string{&st.InstanceID, &st.Version, &st.LoginServer, &st.State, &st.SyncTrigger, &st.SyncState, &st.Reach} {
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
			h, err := heardOf(row)
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
