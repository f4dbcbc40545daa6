package connected

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// Limits on the items that are not in sync in a report. They are low because the
// report takes the same link as these items.
const (
	maxOutOfSync = 50
	maxItemError = 200 // bytes
)

// InFlight returns the items that the running sync fetches, in their order, or
// the items that the stopped one had begun.
func (a *Agent) InFlight(ctx context.Context) ([]wire.OutOfSyncItem, error) {
	all, err := a.inFlightItems(ctx, a.engine.InFlight())
	if t := a.link.current(); t != nil && t.Code == codeLinkDown { // for an unknown time
		for i := range all {
			all[i].BytesPerSecond, all[i].SecondsLeft = 0, 0
		}
	}
	return all, err
}

// inFlightItems returns the items of images, except those in sync.
func (a *Agent) inFlightItems(
	ctx context.Context, images []replication.InFlight,
) (all []wire.OutOfSyncItem, err error) {
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		all = nil
		for _, u := range images {
			for _, name := range u.Items {
				row, err := tx.SyncItem(metadb.Parent, u.Repository, name)
				changed := row.Digest != string(u.Digest) || row.State == replication.Synced
				if errors.Is(err, metadb.ErrNotFound) || err == nil && changed {
					continue
				}
				if err != nil {
					return err
				}
				i, err := itemOf(tx, row)
				if err != nil {
					return err
				}
				i.BytesTotal, i.BytesDone, i.BytesPerSecond = u.BytesTotal, u.BytesDone, u.BytesPerSecond
				i.SecondsLeft = int64((max(u.TimeLeft, 0) + time.Second - 1) / time.Second)
				all = append(all, i)
			}
		}
		return nil
	})
	return all, err
}

// firstInFlight returns the first images in flight, as many as a report may have.
func (a *Agent) firstInFlight() []replication.InFlight {
	all := a.engine.InFlight()
	return all[:min(len(all), maxOutOfSync)]
}

// outOfSync returns items that are not in sync, as many as a report may have:
// first those that failed, then those in flight, then the others.
func (a *Agent) outOfSync(ctx context.Context) (all []wire.OutOfSyncItem, err error) {
	underway, err := a.inFlightItems(ctx, a.firstInFlight())
	if err != nil {
		return nil, err
	}
	type key struct{ repository, item string }
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		all = nil
		listed := map[key]bool{}
		for _, i := range underway {
			listed[key{i.Repository, cmp.Or(i.Tag, string(i.Digest))}] = true
		}
		add := func(rows []metadb.SyncItem, err error) error {
			for _, row := range rows {
				k := key{row.Repository, row.Item}
				if err != nil || len(all) == maxOutOfSync || listed[k] {
					continue
				}
				listed[k] = true
				var i wire.OutOfSyncItem
				i, err = itemOf(tx, row)
				all = append(all, i)
			}
			return err
		}
		if err := add(tx.SyncItems(metadb.Parent, metadb.FailedSyncItem, "", "", maxOutOfSync)); err != nil {
			return err
		}
		all = append(all, underway[:min(len(underway), maxOutOfSync-len(all))]...)
		unsent, err := a.unsentItems(tx, maxOutOfSync-len(all))
		if err != nil {
			return err
		}
		all = append(all, unsent...)
		// Of these rows, at most maxOutOfSync failed, and as many are in flight.
		return add(tx.SyncItems(metadb.Parent, metadb.OutOfSyncItem, "", "", 3*maxOutOfSync))
	})
	return all, err
}

// lacking returns the items that fail permanently, and those that the parent
// lacks itself. It returns all true if no other item is out of sync, and if a
// report may have all of them.
func (a *Agent) lacking(ctx context.Context, p replication.Position) (items []wire.OutOfSyncItem, all bool, err error) {
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		items, all = nil, true
		rows, err := tx.SyncItems(metadb.Parent, metadb.OutOfSyncItem, "", "", maxOutOfSync+1)
		for _, row := range rows {
			if all = all && row.State == replication.Failed && row.Permanent; !all || err != nil {
				return err
			}
			items = append(items, wire.OutOfSyncItem{
				Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest),
				Error: terminal.Clip(row.Error, maxItemError),
			})
		}
		return err
	})
	for _, l := range p.Lacking {
		i := wire.OutOfSyncItem{Repository: l.Repository, Tag: l.Tag, Digest: l.Digest, Error: l.Error}
		same := func(o wire.OutOfSyncItem) bool {
			return o.Repository == i.Repository && o.Tag == i.Tag && o.Digest == i.Digest
		}
		if !slices.ContainsFunc(items, same) {
			items = append(items, i)
		}
	}
	return items, all && len(items) <= maxOutOfSync, err
}

// addLacking adds the items that the parent lacks itself to a report. Without it,
// the root would take them for items in sync.
func addLacking(self *wire.Status, lacking []replication.MissingItem) {
	for _, l := range lacking {
		same := func(o wire.OutOfSyncItem) bool { return o.Repository == l.Repository && o.Tag == l.Tag }
		if slices.ContainsFunc(self.OutOfSync, same) {
			continue
		}
		why := "the parent lacks it: " + strings.TrimPrefix(l.Error, "the parent lacks it: ")
		self.ItemsFailed++
		self.OutOfSync = slices.Insert(self.OutOfSync, 0, wire.OutOfSyncItem{
			Repository: l.Repository, Tag: l.Tag, Digest: l.Digest, Error: terminal.Clip(why, maxItemError),
		})
	}
	self.OutOfSync = self.OutOfSync[:min(len(self.OutOfSync), maxOutOfSync)]
}

// itemOf returns a row as a report has it, with the digest that is served here.
func itemOf(tx *metadb.Tx, row metadb.SyncItem) (wire.OutOfSyncItem, error) {
	i := wire.OutOfSyncItem{
		Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest), MatchedAt: row.SyncedAt,
		Error: terminal.Clip(row.Error, maxItemError),
	}
	if row.Tag == "" {
		return i, nil
	}
	tag, err := tx.Tag(row.Repository, row.Tag)
	if errors.Is(err, metadb.ErrNotFound) {
		return i, nil
	}
	i.Here = digest.Digest(tag.Digest)
	return i, err
}
