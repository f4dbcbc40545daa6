package storage

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// A transaction runs a function in one.
type transaction func(context.Context, func(*metadb.Tx) error) error

// A change is what one transaction changes in one repository. It takes one
// sequence number of the feed, when the first thing changes.
type change struct {
	*Storage
	tx         *metadb.Tx
	repository string
	seq        int64         // 0 while nothing has changed
	added      digest.Digest // of the manifest that was added, if one was
}

// update runs fn in a transaction on one repository, by write or remove. Once that is
// committed, and has changed anything, those who watch the repository know.
func (s *Storage) update(ctx context.Context, repository string, by transaction, fn func(*change) error) error {
	c := &change{Storage: s, repository: repository}
	err := by(ctx, func(tx *metadb.Tx) error {
		c.tx, c.seq, c.added = tx, 0, ""
		return fn(c)
	})
	if err == nil && c.seq > 0 {
		s.watchers.notify(repository)
	}
	return err
}

// number returns the change's sequence number.
func (c *change) number() (seq int64, err error) {
	if c.seq == 0 {
		c.seq, err = c.tx.AdvanceFeed(c.repository, c.Uptime())
	}
	return c.seq, err
}

// removed notes that a tag, or a manifest without a tag, is no item of the
// repository any longer.
func (c *change) removed(item string) error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.PutTombstone(c.repository, item, seq, c.Uptime())
}

// relist notes that the change can add or remove items that have no number and
// no tombstone of it: a short listing cannot tell it.
func (c *change) relist() error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.Relist(c.repository, seq)
}

// moved notes that other manifests may be reachable now than before: where any
// has a subject, it comes and goes with that.
func (c *change) moved() error {
	has, err := c.tx.HasReferrers(c.repository)
	if err != nil || !has {
		return err
	}
	return c.relist()
}

// referenced notes that a tag or an index references manifests. Those that
// nothing referenced before were items of their own until now.
func (c *change) referenced(digests ...string) error {
	first, err := c.tx.MarkReferenced(c.repository, digests...)
	for i := 0; i < len(first) && err == nil; i++ {
		err = c.removed(first[i])
	}
	return err
}

// Watch returns a channel that is closed with the next change, made by this
// process, to a repository for which concerns returns true. Call it before
// reading the feed, or a change between the two is missed. Callers with the same
// key must have the same concerns, which is asked once for all of them. stop
// ends the watch.
func (s *Storage) Watch(key string, concerns func(repository string) bool) (changed <-chan struct{}, stop func()) {
	return s.watchers.add(key, concerns)
}

// TrimFeed forgets which items and repositories were removed longer ago than age. A reader
// whose cursor is from before that gets complete listings instead.
func (s *Storage) TrimFeed(ctx context.Context, age time.Duration) error {
	return s.remove(ctx, func(tx *metadb.Tx) error { return tx.TrimFeed(s.Uptime().Add(-age)) })
}

// watchers are those who wait for a change, by their key.
type watchers struct {
	mu     sync.Mutex
	groups map[string]*watchGroup
}

type watchGroup struct {
	concerns func(repository string) bool
	waiting  int
	changed  chan struct{}
}

func (w *watchers) add(key string, concerns func(repository string) bool) (changed <-chan struct{}, stop func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	g := w.groups[key]
	if g == nil {
		g = &watchGroup{concerns: concerns, changed: make(chan struct{})}
		w.groups[key] = g
	}
	g.waiting++
	return g.changed, sync.OnceFunc(func() { w.leave(key, g) })
}

func (w *watchers) leave(key string, g *watchGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if g.waiting--; g.waiting == 0 && w.groups[key] == g {
		delete(w.groups, key)
	}
}

func (w *watchers) notify(repository string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, g := range w.groups {
		if g.concerns(repository) {
			close(g.changed)
			delete(w.groups, key)
		}
	}
}
