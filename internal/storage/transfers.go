package storage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// MaxLoss is how many received bytes of all transfers a crash may lose at most.
const MaxLoss = 1 << 20

// Limits on saves that are earlier than [MaxLoss] requires. They make a machine that often loses
// power lose less. A slow disk gets time to rest, and a [blob.Coarse] store more bytes at a time.
const (
	enoughToSave = 64 << 10 // bytes
	restAfter    = 9        // times the duration of the last save
)

// hashStep is how many bytes are hashed at a time, so that a large transfer whose gap is filled
// does not block the others.
const hashStep = 4 << 20

// transfers are the open transfers of a [Storage]. One lock guards all of them, because the
// loss by a crash is bounded for all of them together.
type transfers struct {
	mu      sync.Mutex
	open    map[*Transfer]bool
	unsaved int64     // bytes, of all transfers
	rested  time.Time // when the next early save may happen
	least   int64     // bytes that are worth an early save
}

// due reports whether a save is necessary before n more bytes are written.
func (ts *transfers) due(n int64) bool {
	return ts.unsaved+n > MaxLoss || ts.unsaved >= ts.least && !time.Now().Before(ts.rested)
}

// save makes all written bytes durable: first the contents, then, in one transaction, their
// rows. The end of the context does not interrupt it, because bytes that came over a link have
// a cost. A transfer whose file fails keeps its row of the last save, and the others are saved.
func (ts *transfers) save(ctx context.Context, s *Storage) error {
	if ts.unsaved == 0 {
		return nil
	}
	start := time.Now()
	defer func() { ts.rested = time.Now().Add(restAfter * time.Since(start)) }()
	var rows []metadb.Transfer
	dirty := slices.DeleteFunc(slices.Collect(maps.Keys(ts.open)), func(t *Transfer) bool { return t.unsaved == 0 })
	saved := dirty[:0]
	for _, t := range dirty {
		err := s.mapDiskFull(t.partial.Sync())
		if errors.Is(err, oci.ErrNoSpace) {
			return fmt.Errorf("sync transfer %s: %w", t.digest, err)
		}
		if err == nil {
			err = t.hashTo(min(t.have.Prefix(), t.hashed+hashStep))
		}
		if err != nil {
			t.failed = fmt.Errorf("sync transfer %s: %w", t.digest, err)
			ts.unsaved -= t.unsaved
			t.unsaved = 0
			continue
		}
		saved, rows = append(saved, t), append(rows, t.next())
	}
	err := s.db.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
		for i, row := range rows {
			if err := saved[i].held.confirm(tx); err != nil {
				return err
			}
			if err := tx.PutTransfer(row); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return s.mapDiskFull(err)
	}
	for i, t := range saved {
		t.row, t.unsaved = rows[i], 0
	}
	ts.unsaved = 0
	return nil
}

// collectTransfers deletes the transfers that were not written to for the grace period, and
// whose blobs no lease holds: nobody needs them.
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
	held, err := s.partials.tryAcquire(ctx, transferPartial(d))
	if held == nil {
		return err // it was written to meanwhile
	}
	defer held.release()
	var gone bool
	err = s.remove(ctx, func(tx *metadb.Tx) (err error) {
		now := s.Uptime()
		gone, err = tx.DeleteTransferIfStale(string(d), now.Add(-s.grace), now)
		return err
	})
	if err != nil || !gone {
		return err
	}
	return s.blobs.Discard(ctx, transferPartial(d))
}
