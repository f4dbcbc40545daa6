package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// MaxLoss is how many received bytes a crash may lose at most, of all
// transfers together.
const MaxLoss = 1 << 20

// When what was received is made durable earlier than it must be: a machine
// whose power goes often loses less then, and a disk that is slow is not kept
// busy with it.
const (
	enoughToSave = 64 << 10 // bytes
	restAfter    = 9        // times what the last save took
)

// hashStep is how many bytes are hashed at a time, so that a gap which closes
// in a large transfer does not hold up the others.
const hashStep = 4 << 20

// transfers are the open ones of a [Storage]. One lock guards them all, for
// what a crash may lose is bounded over all of them.
type transfers struct {
	mu      sync.Mutex
	open    map[*Transfer]bool
	unsaved int64     // bytes, the sum of theirs
	rested  time.Time // when the last save has rested enough
}

// due reports whether what was written is to be saved before n bytes more are.
func (ts *transfers) due(n int64) bool {
	return ts.unsaved+n > MaxLoss || ts.unsaved >= enoughToSave && !time.Now().Before(ts.rested)
}

// save makes everything written durable: the contents first, then, in one
// transaction, the rows that vouch for them. The context's end does not stop
// it: what is on disk was paid for.
func (ts *transfers) save(ctx context.Context, s *Storage) error {
	if ts.unsaved == 0 {
		return nil
	}
	start := time.Now()
	defer func() { ts.rested = time.Now().Add(restAfter * time.Since(start)) }()
	var rows []metadb.Transfer
	dirty := slices.DeleteFunc(slices.Collect(maps.Keys(ts.open)), func(t *Transfer) bool { return t.unsaved == 0 })
	for _, t := range dirty {
		if err := t.partial.Sync(); err != nil {
			return s.mapDiskFull(fmt.Errorf("sync transfer %s: %w", t.digest, err))
		}
		if err := t.hashTo(min(t.have.prefix(), t.hashed+hashStep)); err != nil {
			return err
		}
		rows = append(rows, t.next())
	}
	err := s.db.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
		for _, row := range rows {
			if err := tx.PutTransfer(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s.mapDiskFull(err)
	}
	for i, t := range dirty {
		t.row, t.unsaved = rows[i], 0
	}
	ts.unsaved = 0
	return nil
}

// collectTransfers drops the transfers that nothing was written to for the
// grace period and that no lease holds: nobody wants what they are of.
func (s *Storage) collectTransfers(ctx context.Context, _ *Collected) error {
	var failed failures
	after := ""
	for {
		stale, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]metadb.Transfer, error) {
			now := s.Uptime()
			return tx.StaleTransfers(now.Add(-s.grace), now, after, page)
		})
		if err != nil || len(stale) == 0 {
			return failed.join(err)
		}
		for _, row := range stale {
			after = row.Digest
			failed.note(s.collectTransfer(ctx, digest.Digest(row.Digest)))
		}
	}
}

func (s *Storage) collectTransfer(ctx context.Context, d digest.Digest) error {
	release, ok := s.partials.tryLock(transferPartial(d))
	if !ok {
		return nil // somebody went on with it
	}
	defer release()
	var gone bool
	err := s.remove(ctx, func(tx *metadb.Tx) (err error) {
		now := s.Uptime()
		gone, err = tx.DeleteTransferIfStale(string(d), now.Add(-s.grace), now)
		return err
	})
	if err != nil || !gone {
		return err
	}
	return s.blobs.Discard(ctx, transferPartial(d))
}
