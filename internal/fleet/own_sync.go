package fleet

import (
	"cmp"
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

func syncStatusOf(st wire.Status, v api.Verdict) *api.SyncStatus {
	return &api.SyncStatus{
		Verdict: v, State: st.State, Time: st.At.UTC(), Paused: st.Paused, NextSyncTime: api.Time(st.NextSync),
		ItemsSynced: st.ItemsSynced, ItemsPending: st.ItemsPending, ItemsFailed: st.ItemsFailed,
		ItemsToSend: st.ItemsToSend, BytesToSend: st.BytesToSend,
		ByteProgress: api.ByteProgressOf(st.BytesDone, st.BytesTotal, st.ItemsUnplanned, st.BytesPerSecond),
		Result:       reportedResult(st), Details: detailsOf(st),
	}
}

// notActivated is the sync state of a connected registry that its parent has not activated.
const notActivated = "NotActivated"

// SyncStatus returns the sync status of this connected registry. It is nil in a root, and before
// the agent runs.
func (s *Service) SyncStatus() *api.SyncStatus {
	st, v := s.ownVerdict()
	if st == nil {
		return nil
	}
	return syncStatusOf(*st, v)
}

// addProgress sets the progress of an item that a sync fetches.
func addProgress(i *api.SyncItem, o wire.OutOfSyncItem) {
	if o.BytesTotal == 0 {
		return
	}
	i.BytesTotal, i.BytesDone, i.BytesPerSecond = &o.BytesTotal, &o.BytesDone, &o.BytesPerSecond
	if o.SecondsLeft > 0 {
		i.EtaSeconds = &o.SecondsLeft
	}
}

// A PageStart says where a page of items begins, and which items it contains.
type PageStart struct {
	Repository, Key string // the page begins after this item
	OutOfSync       bool   // only items that are not known to be in sync
}

// SyncItems returns up to limit items of this connected registry from a page start on, in order.
// inFlight are the items that a sync fetches now; they supply the progress.
func (s *Service) SyncItems(
	ctx context.Context, at PageStart, inFlight []wire.OutOfSyncItem, limit int,
) ([]api.SyncItem, error) {
	_, verdict := s.ownVerdict()
	kind := metadb.RemainingSyncItem
	if at.OutOfSync && verdict.Status != api.Unknown { // otherwise no item is known to be in sync
		kind = metadb.DifferingSyncItem
	}
	progress := map[[2]string]wire.OutOfSyncItem{}
	for _, o := range inFlight {
		progress[[2]string{o.Repository, cmp.Or(o.Tag, string(o.Digest))}] = o
	}
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (all []api.SyncItem, err error) {
		rows, err := tx.SyncItems(metadb.Parent, kind, at.Repository, at.Key, limit)
		for _, row := range rows {
			here, err := digestHere(tx, row)
			if err != nil {
				return nil, err
			}
			i := downgrade(syncItemOf(row, here), verdict)
			if row.State == metadb.Held {
				change, err := control.OrNil(tx.OutboxItem(row.Repository, row.Item))
				if err != nil {
					return nil, err
				}
				if change != nil && change.Error != "" {
					i.State, i.Error = api.Failed, &change.Error
				}
			}
			if row.State == replication.Synced && verdict.AsOfTime != nil && verdict.AsOfTime.After(row.SyncedAt) {
				i.LastMatchTime = verdict.AsOfTime // a change would have been in the parent's answer
			}
			addProgress(&i, progress[[2]string{i.Repository, i.Key}])
			all = append(all, i)
		}
		return all, err
	})
}

// digestHere returns the digest that this registry serves for an item; "" if it serves none.
func digestHere(tx *metadb.Tx, row metadb.SyncItem) (digest.Digest, error) {
	if row.Tag == "" {
		has, err := tx.HasManifest(row.Repository, row.Item)
		if err != nil || !has {
			return "", err
		}
		return digest.Digest(row.Item), nil
	}
	tag, err := control.OrNil(tx.Tag(row.Repository, row.Tag))
	if tag == nil {
		return "", err
	}
	return tag.Digest, nil
}

func syncItemOf(row metadb.SyncItem, here digest.Digest) api.SyncItem {
	o := wire.OutOfSyncItem{
		Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest), Here: here,
		MatchedAt: row.SyncedAt,
	}
	if row.State == replication.Failed {
		o.Error = row.Error
	}
	i := SyncItemOf(o)
	i.Key = row.Item
	switch row.State {
	case replication.Synced:
		i.State = api.InSync
	case replication.Failed:
		i.State = api.Failed
	case metadb.Held:
		i.State = api.ToSend
	}
	return i
}
