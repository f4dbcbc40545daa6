package control

import (
	"context"
	"errors"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A SyncStatus is how a connected registry's sync goes, in its own eyes.
type SyncStatus struct {
	InSync         bool                `json:"inSync" doc:"Whether everything that it knows of at its parent is here."`
	State          string              `json:"state" enum:"Online,Syncing,Unhealthy"`
	Time           time.Time           `json:"time" doc:"When this was so."`
	Paused         bool                `json:"paused" doc:"Whether somebody at the site stopped syncs until further notice."`
	NextSyncTime   *time.Time          `json:"nextSyncTime" doc:"When the next sync window opens; null while one is open."`
	ItemsSynced    int                 `json:"itemsSynced"`
	ItemsPending   int                 `json:"itemsPending"`
	ItemsFailed    int                 `json:"itemsFailed"`
	BytesTotal     int64               `json:"bytesTotal" doc:"Of the layers that were missing when the sync began, as far as it has planned."`
	BytesDone      int64               `json:"bytesDone" doc:"Of these, what is here."`
	BytesPerSecond int64               `json:"bytesPerSecond" doc:"Over the last seconds; 0 while no sync runs."`
	EtaSeconds     *int64              `json:"etaSeconds" doc:"How long the rest takes at this rate; null where nobody knows."`
	Result         *RegistrySyncResult `json:"result"`
	Details        []StatusDetail      `json:"details" nullable:"false"`
}

func syncStatusOf(st wire.Status) *SyncStatus {
	return &SyncStatus{
		InSync: inSync(st), State: st.State, Time: st.At.UTC(), Paused: st.Paused, NextSyncTime: moment(st.NextSync),
		ItemsSynced: st.ItemsSynced, ItemsPending: st.ItemsPending, ItemsFailed: st.ItemsFailed,
		BytesTotal: st.BytesTotal, BytesDone: st.BytesDone, BytesPerSecond: st.BytesPerSecond,
		EtaSeconds: secondsLeft(st.BytesTotal-st.BytesDone, st.BytesPerSecond), Result: resultOf(st), Details: detailsOf(st),
	}
}

// secondsLeft returns how long bytes take at a rate; nil where nobody knows.
func secondsLeft(bytes, perSecond int64) *int64 {
	if bytes <= 0 || perSecond <= 0 {
		return nil
	}
	seconds := (bytes + perSecond - 1) / perSecond
	return &seconds
}

// inSync reports whether a site has everything that it knows of.
func inSync(st wire.Status) bool {
	return !st.LastSyncSuccess.IsZero() && st.ItemsPending == 0 && st.ItemsFailed == 0 && st.SyncState != notActivated
}

// notActivated is the state of a sync at a site that its parent does not know.
const notActivated = "NotActivated"

func (s *Service) syncStatus() *SyncStatus {
	st := s.status()
	if st == nil {
		return nil
	}
	return syncStatusOf(*st)
}

// A SyncItem is a tag of the parent, or a manifest that no tag leads to, and
// how far it is at the site.
type SyncItem struct {
	Repository    string     `json:"repository"`
	Tag           *string    `json:"tag" doc:"Null for a manifest without one."`
	State         string     `json:"state" enum:"InSync,Pending,Failed,ToRemove,Unknown" doc:"Unknown is of a site that has more open than it says, or whose parent is a site that had the tag when nobody knows whether this one did."`
	Digest        *string    `json:"digest" doc:"What the site serves; null is nothing."`
	ParentDigest  *string    `json:"parentDigest" doc:"What the parent has; null is nothing any more."`
	LastMatchTime *time.Time `json:"lastMatchTime" doc:"When both were last known to be the same."`
	Error         *string    `json:"error" doc:"Of the last try, where that failed."`

	BytesTotal     *int64 `json:"bytesTotal" doc:"Of the layers that were missing when it was planned; null where a sync has not come to it yet, or it is in sync."`
	BytesDone      *int64 `json:"bytesDone" doc:"Of these, what is here."`
	BytesPerSecond *int64 `json:"bytesPerSecond" doc:"Over the last seconds."`
	EtaSeconds     *int64 `json:"etaSeconds" doc:"How long it takes until it is here, after what comes before it; null where nobody knows."`

	item string // its place in a listing
}

// moves notes how far an item is, where a sync fetches it.
func (i *SyncItem) moves(o wire.OpenItem) {
	if o.BytesTotal == 0 {
		return
	}
	i.BytesTotal, i.BytesDone, i.BytesPerSecond = &o.BytesTotal, &o.BytesDone, &o.BytesPerSecond
	if o.SecondsLeft > 0 {
		i.EtaSeconds = &o.SecondsLeft
	}
}

// A syncPlace is where a page of items begins, and which it has.
type syncPlace struct {
	Repository, Item string // begin after this one
	Open             bool   // only those that are not in sync
}

// syncItems returns up to limit items behind a place, in order.
func (s *Service) syncItems(ctx context.Context, at syncPlace, limit int) (all []SyncItem, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		read := tx.SyncItems
		if at.Open {
			read = tx.OpenSyncItems
		}
		rows, err := read(metadb.Parent, at.Repository, at.Item, limit)
		if err != nil {
			return err
		}
		for _, row := range rows {
			here, err := digestHere(tx, row)
			if err != nil {
				return err
			}
			all = append(all, syncItemOf(row, here))
		}
		return nil
	})
	return all, err
}

// digestHere returns the digest of what is served of an item; "" is nothing.
func digestHere(tx *metadb.Tx, row metadb.SyncItem) (string, error) {
	if row.Tag == "" {
		has, err := tx.HasManifest(row.Repository, row.Item)
		if err != nil || !has {
			return "", err
		}
		return row.Item, nil
	}
	tag, err := tx.Tag(row.Repository, row.Tag)
	if errors.Is(err, metadb.ErrNotFound) {
		return "", nil
	}
	return tag.Digest, err
}

func syncItemOf(row metadb.SyncItem, here string) SyncItem {
	i := SyncItem{
		Repository: row.Repository, Tag: text(row.Tag), State: "Pending", Digest: text(here), ParentDigest: text(row.Digest),
		LastMatchTime: moment(row.SyncedAt), item: row.Item,
	}
	switch {
	case row.State == "synced":
		i.State = "InSync"
	case row.State == "failed":
		i.State, i.Error = "Failed", text(row.Error)
	case row.Digest == "":
		i.State = "ToRemove"
	}
	return i
}
