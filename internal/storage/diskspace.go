package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage/blob"
)

// unreserved is how many bytes of the disk transfers leave to the database and to clients.
const unreserved = 2 << 20

// DiskSpace says how much more content fits on the disk.
type DiskSpace struct {
	Free    int64                   // bytes that nobody is about to write; negative if too much is reserved
	Partial map[digest.Digest]int64 // bytes on disk of each incomplete blob
}

// DiskSpace returns the space on the disk, without what is reserved; see [Storage.ReserveSpace].
func (s *Storage) DiskSpace(ctx context.Context) (d DiskSpace, err error) {
	if d.Partial, err = s.partialBytes(ctx); err != nil {
		return d, err
	}
	if d.Free, err = s.blobs.Free(ctx); err != nil {
		return d, err
	}
	d.Free -= unreserved + s.reservations.bytes(d.Partial)
	return d, nil
}

// ReleaseLog gives the space of the database's log back to the disk.
func (s *Storage) ReleaseLog(ctx context.Context) error { return s.db.ReleaseLog(ctx) }

// partialBytes returns how many bytes are on disk of each transfer.
func (s *Storage) partialBytes(ctx context.Context) (map[digest.Digest]int64, error) {
	rows, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]metadb.Transfer, error) { return tx.Transfers() })
	if err != nil {
		return nil, err
	}
	bytes := map[digest.Digest]int64{}
	for _, row := range rows {
		var have blob.Ranges
		if json.Unmarshal([]byte(row.Ranges), &have) == nil { // else the transfer starts again
			bytes[digest.Digest(row.Digest)] = have.Total()
		}
	}
	s.transfers.mu.Lock()
	defer s.transfers.mu.Unlock()
	for t := range s.transfers.open {
		bytes[t.digest] = t.have.Total()
	}
	return bytes, nil
}

// A Reservation returns how many bytes transfers have yet to write, given the bytes on disk
// of each.
type Reservation func(partial map[digest.Digest]int64) int64

// ReserveSpace takes the bytes that r returns off the free space, until release is called.
func (s *Storage) ReserveSpace(r Reservation) (release func()) {
	s.reservations.mu.Lock()
	defer s.reservations.mu.Unlock()
	s.reservations.all[&r] = true
	return func() {
		s.reservations.mu.Lock()
		defer s.reservations.mu.Unlock()
		delete(s.reservations.all, &r)
	}
}

type reservations struct {
	mu  sync.Mutex
	all map[*Reservation]bool
}

// bytes returns the sum of all reservations.
func (rs *reservations) bytes(partial map[digest.Digest]int64) (n int64) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	for r := range rs.all {
		n += (*r)(partial)
	}
	return n
}

// DiscardTransfer deletes the bytes on disk of an incomplete blob. The error is [ErrBusy]
// while the blob is being fetched.
func (s *Storage) DiscardTransfer(ctx context.Context, d digest.Digest) error {
	held, err := s.partials.tryAcquire(ctx, transferPartial(d))
	if held == nil {
		return cmp.Or(err, ErrBusy)
	}
	defer held.release()
	// The content is deleted first: on a full disk, the row cannot be deleted before. A row
	// without content does no harm.
	if err := s.blobs.Discard(ctx, transferPartial(d)); err != nil {
		return err
	}
	return s.write(ctx, func(tx *metadb.Tx) error { return tx.DeleteTransfer(string(d)) })
}
