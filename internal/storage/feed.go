package storage

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// ErrExpired is returned for a place in the change feed that it no longer, or
// not yet, has: its reader needs a snapshot instead.
var ErrExpired = errors.New("the change feed does not reach back that far")

// Changes returns up to limit changes after the sequence number after, oldest
// first, and the feed's newest number.
func (s *Storage) Changes(ctx context.Context, after int64, limit int) (changes []Change, head int64, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		oldest, newest, err := tx.FeedBounds()
		if err != nil {
			return err
		}
		if after > newest || after < oldest-1 {
			return ErrExpired
		}
		head = newest
		rows, err := tx.Changes(after, limit)
		for _, c := range rows {
			ch := Change{
				Seq: c.Seq, Kind: ChangeKind(c.Kind), Repository: c.Repository, Tag: c.Tag,
				Digest: digest.Digest(c.Digest), Origin: c.Origin, At: c.At,
			}
			for d := range strings.FieldsSeq(c.Former) {
				ch.Former = append(ch.Former, digest.Digest(d))
			}
			changes = append(changes, ch)
		}
		return err
	})
	return changes, head, err
}

// Head returns the sequence number of the newest change; 0 is none yet.
func (s *Storage) Head(ctx context.Context) (head int64, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		_, head, err = tx.FeedBounds()
		return err
	})
	return head, err
}

// Changed returns a channel that is closed with the next change that this
// process makes. Take it before reading the feed, or the change between the
// two is missed.
func (s *Storage) Changed() <-chan struct{} { return s.feed.next() }

// TrimChanges drops the changes from before the given time. What is kept has
// no gap, whatever the clock did.
func (s *Storage) TrimChanges(ctx context.Context, before time.Time) error {
	return s.write(ctx, func(tx *metadb.Tx) error { return tx.TrimChanges(before) })
}

// NoteControlChange appends a [ControlChanged] within a transaction that
// writes scope maps, tokens or connected registries. Call [Storage.Notify]
// once it is committed.
func (s *Storage) NoteControlChange(tx *metadb.Tx) error {
	return s.note(tx, ControlChanged, "", "", "", "")
}

// Notify wakes those who wait on [Storage.Changed].
func (s *Storage) Notify() { s.feed.notify() }

func (s *Storage) note(tx *metadb.Tx, kind ChangeKind, repository, tag string, d digest.Digest, origin string, former ...string) error {
	_, err := s.noted(tx, kind, repository, tag, d, origin, former...)
	return err
}

// noted appends a change, and returns its number.
func (s *Storage) noted(tx *metadb.Tx, kind ChangeKind, repository, tag string, d digest.Digest, origin string, former ...string) (seq int64, err error) {
	return tx.AddChange(metadb.Change{
		Kind: string(kind), Repository: repository, Tag: tag, Digest: string(d), Former: strings.Join(former, " "), Origin: origin, At: s.now(),
	})
}

// lead notes that a tag or an index leads to manifests. Readers may have been
// told of some while only their digest did.
func (s *Storage) lead(tx *metadb.Tx, repository, origin string, digests ...string) error {
	fresh, err := tx.Lead(repository, digests...)
	if err != nil {
		return err
	}
	for _, d := range fresh {
		if err := s.note(tx, ManifestLed, repository, "", digest.Digest(d), origin); err != nil {
			return err
		}
	}
	return nil
}

// broadcast wakes everyone who waits for the next event.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

func (b *broadcast) next() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) notify() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}
