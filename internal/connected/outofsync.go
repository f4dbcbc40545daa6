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

// Limits on what a report has of items that are not in sync: it is sent over
// the link that they wait for.
const (
	maxOutOfSync = 50
	maxItemError = 200 // bytes
)

// Underway returns the items that the running sync fetches, in the order in
// which they come; or those that the last one left when it was stopped.
func (a *Agent) Underway(ctx context.Context) ([]wire.OutOfSyncItem, error) {
	all, err := a.underway(ctx, a.engine.InFlight())
	if t := a.link.current(); t != nil && t.Code == codeLinkDown { // nobody knows how long that lasts
		for i := range all {
			all[i].BytesPerSecond, all[i].SecondsLeft = 0, 0
		}
	}
	return all, err
}

// underway returns the items of images that are not in sync.
func (a *Agent) underway(ctx context.Context, images []replication.InFlight) (all []wire.OutOfSyncItem, err error) {
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
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
				i, err := openItem(tx, row)
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

// firstInFlight is what the sync has begun, as far as a report can have it.
func (a *Agent) firstInFlight() []replication.InFlight {
	all := a.engine.InFlight()
	return all[:min(len(all), maxOutOfSync)]
}

// outOfSync returns the first items that are not in sync: those that failed,
// then those that are being fetched, then the others.
func (a *Agent) outOfSync(ctx context.Context) (all []wire.OutOfSyncItem, err error) {
	underway, err := a.underway(ctx, a.firstInFlight())
	if err != nil {
		return nil, err
	}
	type key struct{ repository, item string }
	listed := map[key]bool{}
	for _, i := range underway {
		listed[key{i.Repository, cmp.Or(i.Tag, string(i.Digest))}] = true
	}
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		add := func(rows []metadb.SyncItem, err error) error {
			for _, row := range rows {
				k := key{row.Repository, row.Item}
				if err != nil || len(all) == maxOutOfSync || listed[k] {
					continue
				}
				listed[k] = true
				var i wire.OutOfSyncItem
				i, err = openItem(tx, row)
				all = append(all, i)
			}
			return err
		}
		if err := add(tx.SyncItems(metadb.Parent, metadb.FailedSyncItem, "", "", maxOutOfSync)); err != nil {
			return err
		}
		all = append(all, underway[:min(len(underway), maxOutOfSync-len(all))]...)
		// At most as many have failed, and as many are being fetched.
		return add(tx.SyncItems(metadb.Parent, metadb.OpenSyncItem, "", "", 3*maxOutOfSync))
	})
	return all, err
}

// lacking returns the items that are not here and fail for good, and those that
// the parent lacks itself. all is that there are no others that are not in sync,
// and not too many of these.
func (a *Agent) lacking(ctx context.Context, p replication.Position) (items []wire.OutOfSyncItem, all bool, err error) {
	all = true
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.SyncItems(metadb.Parent, metadb.OpenSyncItem, "", "", maxOutOfSync+1)
		for _, row := range rows {
			if all = all && row.State == replication.Failed && row.Permanent; !all || err != nil {
				return err
			}
			var i wire.OutOfSyncItem
			i, err = openItem(tx, row)
			items = append(items, wire.OutOfSyncItem{Repository: i.Repository, Tag: i.Tag, Digest: i.Digest, Error: i.Error})
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

// addLacking adds to a report what the parent lacks itself: the root must not take
// it for what is in sync here.
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

func openItem(tx *metadb.Tx, row metadb.SyncItem) (wire.OutOfSyncItem, error) {
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
