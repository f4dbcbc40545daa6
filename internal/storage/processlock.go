package storage

import (
	"context"
	"slices"

	"ferry/internal/metadb"
)

// A processLock is a lock for each key, which the goroutines of this process respect and, with a
// session, those of other processes with the same content, too.
type processLock struct {
	keyLock
	session *metadb.Session // nil is this process alone
}

// A held is the keys that a goroutine has locked. The zero value is no key.
type held struct {
	unlock []func()
	locks  []*metadb.Lock
}

// acquire waits for several keys. It locks them in order, so that two callers never wait for each
// other.
func (p *processLock) acquire(ctx context.Context, keys ...string) (*held, error) {
	keys = slices.Compact(slices.Sorted(slices.Values(keys)))
	h := &held{unlock: []func(){p.lockAll(keys)}}
	if p.session == nil {
		return h, nil
	}
	for _, key := range keys {
		if err := h.add(p.session.Lock(ctx, key)); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// tryAcquire is acquire without waiting. The result is nil if another user has the key.
func (p *processLock) tryAcquire(ctx context.Context, key string) (*held, error) {
	unlock, ok := p.tryLock(key)
	if !ok {
		return nil, nil
	}
	h := &held{unlock: []func(){unlock}}
	if p.session == nil {
		return h, nil
	}
	if err := h.add(p.session.TryLock(ctx, key)); err != nil {
		return nil, err
	}
	if len(h.locks) == 0 {
		h.release()
		return nil, nil
	}
	return h, nil
}

// add adds a lock of the session, or releases everything on an error.
func (h *held) add(l *metadb.Lock, err error) error {
	if err != nil {
		h.release()
		return err
	}
	if l != nil {
		h.locks = append(h.locks, l)
	}
	return nil
}

// release unlocks the keys.
func (h *held) release() {
	for _, l := range h.locks {
		l.Release()
	}
	for _, unlock := range h.unlock {
		unlock()
	}
}

// confirmed returns fn, if no other process can have a key by the time of its transaction.
func (h *held) confirmed(fn func(*metadb.Tx) error) func(*metadb.Tx) error {
	return func(tx *metadb.Tx) error {
		if err := h.confirm(tx); err != nil {
			return err
		}
		return fn(tx)
	}
}

// confirm returns an error if another process may have a key by now. What tx writes is then not
// written.
func (h *held) confirm(tx *metadb.Tx) error {
	if len(h.locks) == 0 {
		return nil
	}
	return h.locks[0].Confirm(tx) // all are of one session, or the first is of one that has ended
}
