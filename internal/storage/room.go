package storage

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// spare is how many bytes of the disk transfers leave to the database and to clients.
const spare = 2 << 20

// Room is what the disk has room for.
type Room struct {
	Free    int64                   // bytes that nobody is about to write; negative if too much is promised
	Partial map[digest.Digest]int64 // bytes on disk of each blob that is not whole
}

// Room returns what the disk has room for, less what [Storage.Promise] says.
func (s *Storage) Room(ctx context.Context) (r Room, err error) {
	if r.Partial, err = s.partialBytes(ctx); err != nil {
		return r, err
	}
	if r.Free, err = s.blobs.Free(ctx); err != nil {
		return r, err
	}
	r.Free -= spare + s.promises.bytes(r.Partial)
	return r, nil
}

// ReleaseRoom gives back to the disk what the database can do without.
func (s *Storage) ReleaseRoom(ctx context.Context) error { return s.db.ReleaseLog(ctx) }

// partialBytes returns how many bytes are on disk of each transfer.
func (s *Storage) partialBytes(ctx context.Context) (map[digest.Digest]int64, error) {
	rows, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]metadb.Transfer, error) { return tx.Transfers() })
	if err != nil {
		return nil, err
	}
	bytes := map[digest.Digest]int64{}
	for _, row := range rows {
		var have ranges
		if json.Unmarshal([]byte(row.Ranges), &have) == nil { // else it starts again
			bytes[digest.Digest(row.Digest)] = have.total()
		}
	}
	s.transfers.mu.Lock()
	defer s.transfers.mu.Unlock()
	for t := range s.transfers.open {
		bytes[t.digest] = t.have.total()
	}
	return bytes, nil
}

// A Promise returns how many bytes transfers are still to write, of which partial
// are on disk.
type Promise func(partial map[digest.Digest]int64) int64

// Promise counts what p returns as taken until release is called.
func (s *Storage) Promise(p Promise) (release func()) {
	s.promises.mu.Lock()
	defer s.promises.mu.Unlock()
	s.promises.all[&p] = true
	return func() {
		s.promises.mu.Lock()
		defer s.promises.mu.Unlock()
		delete(s.promises.all, &p)
	}
}

type promises struct {
	mu  sync.Mutex
	all map[*Promise]bool
}

func (ps *promises) bytes(partial map[digest.Digest]int64) (n int64) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for p := range ps.all {
		n += (*p)(partial)
	}
	return n
}

// DiscardTransfer gives back what is on disk of a blob that is not whole. The
// error is [ErrBusy] while somebody fetches it.
func (s *Storage) DiscardTransfer(ctx context.Context, d digest.Digest) error {
	release, ok := s.partials.tryLock(transferPartial(d))
	if !ok {
		return ErrBusy
	}
	defer release()
	// The content goes first: on a full disk the row cannot be deleted before.
	// A row without its content vouches for nothing.
	if err := s.blobs.Discard(ctx, transferPartial(d)); err != nil {
		return err
	}
	return s.write(ctx, func(tx *metadb.Tx) error { return tx.DeleteTransfer(string(d)) })
}
