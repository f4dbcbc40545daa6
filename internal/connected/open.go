package connected

import (
	"context"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
)

// Limits on what a report has of items that are not in sync: it is sent over
// the link that they wait for.
const (
	maxOpen      = 50
	maxOpenError = 200 // bytes
	openPage     = 500
)

// open returns what is not in sync, those that failed first where there are
// any.
func (a *Agent) open(ctx context.Context, failed bool) (all []gateway.OpenItem, err error) {
	err = a.db.View(ctx, func(tx *metadb.Tx) error {
		var waiting []gateway.OpenItem
		for repository, item := "", ""; len(all) < maxOpen; {
			rows, err := tx.OpenSyncItems(metadb.Parent, repository, item, openPage)
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
				*to = append(*to, i)
			}
			if len(rows) < openPage || !failed && len(waiting) == maxOpen {
				break
			}
		}
		all = append(all, waiting[:min(len(waiting), maxOpen-len(all))]...)
		return nil
	})
	return all, err
}

func openItem(tx *metadb.Tx, row metadb.SyncItem) (gateway.OpenItem, error) {
	i := gateway.OpenItem{
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
