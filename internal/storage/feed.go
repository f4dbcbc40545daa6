package storage

import (
	"context"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// A transaction runs a function in a transaction of the database.
type transaction func(context.Context, func(*metadb.Tx) error) error

// A change is all that one transaction changes in one repository. It takes one sequence number
// of the feed, with the first thing that changes.
type change struct {
	*Storage
	tx         *metadb.Tx
	repository string
	seq        int64         // 0 while nothing has changed
	added      digest.Digest // of the manifest that was added; "" is none
	unlocked   bool          // locks forbid nothing; see [Unlocked]
	tagged     digest.Digest // of the manifest that the change also tags; "" is none
	content    []ContentChange
	records    bool // each changed item is recorded for the parent; see outbox.go
}

// update runs fn in a transaction on one repository, by write or remove. After the commit, it
// notifies those who watch the repository, if anything changed.
func (s *Storage) update(ctx context.Context, repository string, by transaction, fn func(*change) error) error {
	c := &change{Storage: s, repository: repository}
	err := by(ctx, func(tx *metadb.Tx) error {
		c.tx, c.seq, c.added, c.content, c.records = tx, 0, "", nil, false
		if err := fn(c); err != nil {
			return err
		}
		return c.observeContent()
	})
	if err == nil && c.seq > 0 {
		s.watchers.notify(repository)
		if c.records {
			s.outboxChanged.Notify()
		}
	}
	return err
}

// number returns the sequence number of the change.
func (c *change) number() (seq int64, err error) {
	if c.seq == 0 {
		c.seq, err = c.tx.AdvanceFeed(c.repository, c.Uptime())
	}
	return c.seq, err
}

// removed records that a tag or an untagged manifest is no item of the repository any more.
func (c *change) removed(item string) error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.PutTombstone(c.repository, item, seq, c.Uptime())
}

// relist records that a short listing cannot express the change, because it can add or remove
// items without numbers or tombstones of their own.
func (c *change) relist() error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.Relist(c.repository, seq)
}

// relistReferrers records that other manifests may be reachable now than before. If the
// repository has referrers, or locked manifests, it is listed completely, because these are items
// if their subject, or they themselves, are reachable.
func (c *change) relistReferrers() error {
	for _, look := range []func(string) (bool, error){c.tx.HasReferrers, c.tx.HasLockedManifests} {
		if has, err := look(c.repository); err != nil {
			return err
		} else if has {
			return c.relist()
		}
	}
	return nil
}

// referenced records that a tag or an index references manifests. Those that were not
// referenced before were items of their own until now.
func (c *change) referenced(digests ...string) error {
	first, err := c.tx.MarkReferenced(c.repository, digests...)
	for i := 0; i < len(first) && err == nil; i++ {
		if err = c.removed(first[i]); err == nil && c.records {
			err = c.tx.DropUntagged(c.repository, first[i])
		}
	}
	return err
}

// released records that a manifest lost a tag, or was added without one.
func (c *change) released(d digest.Digest) error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.MarkReleased(c.repository, string(d), metadb.Release{Seq: seq, At: c.Uptime()})
}

// releasedBelow records that the children and the referrers of a manifest lose it.
func (c *change) releasedBelow(d digest.Digest) error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.MarkReleasedBelow(c.repository, string(d), metadb.Release{Seq: seq, At: c.Uptime()})
}

// healed records that damaged content of the repository is back in service.
func (c *change) healed() error {
	seq, err := c.number()
	if err != nil {
		return err
	}
	return c.tx.MarkHealed(c.repository, seq)
}

// notifyWatchers wakes the readers that wait for a change of one of the repositories.
func (s *Storage) notifyWatchers(changed map[string]bool) {
	for repository, is := range changed {
		if is {
			s.watchers.notify(repository)
		}
	}
}

// Watch returns a channel that is closed by the next change of a repository for which concerns
// returns true. A caller must watch before it reads the feed, so that it
// misses no change in between. concerns is called once for all callers with the same key, so
// theirs must be the same. stop ends the watch.
func (s *Storage) Watch(key string, concerns func(repository string) bool) (changed <-chan struct{}, stop func()) {
	return s.watchers.add(key, concerns)
}

// TrimFeed forgets items and repositories that were removed longer ago than age. A reader with
// an older cursor gets complete listings.
func (s *Storage) TrimFeed(ctx context.Context, age time.Duration) error {
	before := s.Uptime().Add(-age)
	for more := true; more; {
		err := s.remove(ctx, func(tx *metadb.Tx) (err error) {
			more, err = tx.TrimFeed(before, trimmedAtOnce)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// trimmedAtOnce is about how many tombstones one transaction deletes, so that others do not wait for long.
const trimmedAtOnce = 5000

// watchers are the readers that wait for a change, by key.
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

func (w *watchers) notifyAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for key, g := range w.groups {
		close(g.changed)
		delete(w.groups, key)
	}
}
