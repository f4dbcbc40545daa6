package server

import (
	"context"
	"time"

	"ferry/internal/metadb"
)

// collectedSetting is the name under which the last collection's time is kept.
const collectedSetting = "garbage-collected"

// A ledger keeps, over restarts, when garbage was collected last.
type ledger struct{ db *metadb.DB }

// Collected returns when that was, to the second; zero is never, or not known.
func (l ledger) Collected(ctx context.Context) (at time.Time, err error) {
	err = l.db.View(ctx, func(tx *metadb.Tx) error {
		text, err := tx.Setting(collectedSetting)
		if err != nil || text == "" {
			return err
		}
		// What cannot be read is not known: collections go on.
		at, _ = time.Parse(time.RFC3339, text)
		return nil
	})
	return at, err
}

// SetCollected notes when it was.
func (l ledger) SetCollected(ctx context.Context, at time.Time) error {
	return l.db.Update(ctx, func(tx *metadb.Tx) error {
		return tx.SetSetting(collectedSetting, at.UTC().Format(time.RFC3339))
	})
}
