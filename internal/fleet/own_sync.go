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
		ByteProgress: api.ByteProgressOf(st.BytesDone, st.BytesTotal, st.ItemsUnplanned, st.BytesPerSecond),
		Result:       resultOf(st), Details: detailsOf(st),
	}
}

// notActivated is the state of a sync at a site that its parent does not know.
const notActivated = "NotActivated"

// SyncStatus returns how the sync of this connected registry goes; nil in a
// root, and before its agent runs.
func (s *Service) SyncStatus() *api.SyncStatus {
	st, v := s.ownVerdict()
	if st == nil {
		return nil
	}
	return syncStatusOf(*st, v)
}

// addProgress notes how far an item is, where a sync fetches it.
func addProgress(i *api.SyncItem, o wire.OpenItem) {
	if o.BytesTotal == 0 {
		return
	}
	i.BytesTotal, i.BytesDone, i.BytesPerSecond = &o.BytesTotal, &o.BytesDone, &o.BytesPerSecond
	if o.SecondsLeft > 0 {
		i.EtaSeconds = &o.SecondsLeft
	}
}

// A Place is where a page of items begins, and which items it has.
type Place struct {
	Repository, Key string // begin after this one
	Open            bool   // only those that are not in sync, or not known to be
}

// SyncItems returns up to limit items of this connected registry behind a
// place, in order. Of those that are moving it has how far they are.
func (s *Service) SyncItems(ctx context.Context, at Place, moving []wire.OpenItem, limit int) ([]api.SyncItem, error) {
	_, verdict := s.ownVerdict()
	kind := metadb.ListedSyncItem
	if at.Open && verdict.Status != api.Unknown { // else it is all of them
		kind = metadb.OpenSyncItem
	}
	far := map[[2]string]wire.OpenItem{}
	for _, o := range moving {
		far[[2]string{o.Repository, cmp.Or(o.Tag, string(o.Digest))}] = o
	}
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (all []api.SyncItem, err error) {
		rows, err := tx.SyncItems(metadb.Parent, kind, at.Repository, at.Key, limit)
		for _, row := range rows {
			here, err := digestHere(tx, row)
			if err != nil {
				return nil, err
			}
			i := asKnown(syncItemOf(row, here), verdict)
			if row.State == replication.Synced && verdict.AsOfTime != nil && verdict.AsOfTime.After(row.SyncedAt) {
				i.LastMatchTime = verdict.AsOfTime // the parent would have said otherwise
			}
			addProgress(&i, far[[2]string{i.Repository, i.Key}])
			all = append(all, i)
		}
		return all, err
	})
}

// digestHere returns the digest of what is served of an item; "" is nothing.
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
	o := wire.OpenItem{
		Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest), Here: here,
		MatchedAt: row.SyncedAt,
	}
	if row.State == replication.Failed {
		o.Error = row.Error
	}
	i := OpenItemOf(o)
	i.Key = row.Item
	switch row.State {
	case replication.Synced:
		i.State = api.InSync
	case replication.Failed:
		i.State = api.Failed
	}
	return i
}
