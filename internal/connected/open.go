package connected

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// Limits on what a report has of items that are not in sync: it is sent over
// the link that they wait for.
const (
	maxOpen      = 50
	maxOpenError = 200 // bytes
	openPage     = 500
)

// Underway returns the items that the running sync fetches, in the order in
// which they come; or those that the last one left where it was stopped.
func (a *Agent) Underway(ctx context.Context) ([]wire.OpenItem, error) {
	return a.underway(ctx, -1)
}

// underway is [Agent.Underway], for up to limit of them; -1 is all.
func (a *Agent) underway(ctx context.Context, limit int) (all []wire.OpenItem, err error) {
	images := a.engine.InFlight()
	err = a.db.View(ctx, func(tx *metadb.Tx) error {
		for _, u := range images {
			for _, name := range u.Items {
				if len(all) == limit {
					return nil
				}
				row, err := tx.SyncItem(metadb.Parent, u.Repository, name)
				if errors.Is(err, metadb.ErrNotFound) || err == nil && (row.Digest != string(u.Digest) || row.State == replication.Synced) {
					continue // it moved on meanwhile
				}
				if err != nil {
					return err
				}
				i, err := openItem(tx, row)
				if err != nil {
					return err
				}
				i.BytesTotal, i.BytesDone, i.BytesPerSecond = u.BytesTotal, u.BytesDone, u.BytesPerSecond
				i.SecondsLeft = int64((max(u.Left, 0) + time.Second - 1) / time.Second)
				all = append(all, i)
			}
		}
		return nil
	})
	return all, err
}

// open returns what is not in sync: those that failed first where there are
// any, then those that are being fetched.
func (a *Agent) open(ctx context.Context, failed bool) (all []wire.OpenItem, err error) {
	moving, err := a.underway(ctx, maxOpen)
	if err != nil {
		return nil, err
	}
	moves := map[itemKey]bool{}
	for _, i := range moving {
		moves[keyOf(i)] = true
	}
	err = a.db.View(ctx, func(tx *metadb.Tx) error {
		var waiting []wire.OpenItem
		for repository, item := "", ""; len(all) < maxOpen; {
			rows, err := tx.SyncItems(metadb.Parent, metadb.OpenSyncItem, repository, item, openPage)
			if err != nil {
				return err
			}
			for _, row := range rows {
				repository, item = row.Repository, row.Item
				to := &waiting
				if row.Error != "" {
					to = &all
				}
				if len(*to) == maxOpen {
					continue
				}
				i, err := openItem(tx, row)
				if err != nil {
					return err
				}
				if !moves[keyOf(i)] {
					*to = append(*to, i)
				}
			}
			if len(rows) < openPage || !failed && len(moving)+len(waiting) >= maxOpen {
				break
			}
		}
		all = append(append(all, moving...), waiting...)
		all = all[:min(len(all), maxOpen)]
		return nil
	})
	return all, err
}

// An itemKey tells items apart.
type itemKey struct {
	repository, tag string
	digest          digest.Digest
}

func keyOf(i wire.OpenItem) itemKey { return itemKey{i.Repository, i.Tag, i.Digest} }

func openItem(tx *metadb.Tx, row metadb.SyncItem) (wire.OpenItem, error) {
	i := wire.OpenItem{
		Repository: row.Repository, Tag: row.Tag, Digest: digest.Digest(row.Digest), MatchedAt: row.SyncedAt,
		Error: strings.ToValidUTF8(row.Error[:min(len(row.Error), maxOpenError)], ""),
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
