package storage

import (
	"container/list"
	"sync"
)

// cacheSize bounds the payloads in the cache, in bytes. Those of large manifests are not
// in it.
const cacheSize = 8 << 20

// entryCost is what an entry takes beside its payload, roughly, in bytes.
const entryCost = 512

// cache keeps the manifests that were read last, by repository and reference.
//
// A value may be put only with the generation that was current before it was
// read from the database: a write that happened between the two has raised
// the generation, and the value, which may be stale, is not kept.
type cache struct {
	mu         sync.Mutex
	max, size  int
	generation uint64
	entries    map[cacheKey]*list.Element // of *cacheEntry
	recent     *list.List                 // the most recently used first
}

type cacheKey struct{ repository, reference string }

type cacheEntry struct {
	key      cacheKey
	manifest *Manifest
}

func newCache(size int) *cache {
	return &cache{max: size, entries: map[cacheKey]*list.Element{}, recent: list.New()}
}

// get returns the manifest, or nil and the generation to put it with.
func (c *cache) get(repository, reference string) (*Manifest, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[cacheKey{repository, reference}]
	if e == nil {
		return nil, c.generation
	}
	c.recent.MoveToFront(e)
	return e.Value.(*cacheEntry).manifest, c.generation
}

func (c *cache) put(repository, reference string, m *Manifest, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := cacheKey{repository, reference}
	if generation != c.generation || c.entries[key] != nil {
		return
	}
	c.entries[key] = c.recent.PushFront(&cacheEntry{key, m})
	c.size += entryCost + len(m.Payload)
	for c.size > c.max {
		c.remove(c.recent.Back())
	}
}

// forget drops what the references of repository led to, after they were written.
func (c *cache) forget(repository string, references ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for _, reference := range references {
		if e := c.entries[cacheKey{repository, reference}]; e != nil {
			c.remove(e)
		}
	}
}

// forgetRepository drops everything of repository.
func (c *cache) forgetRepository(repository string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for key, e := range c.entries {
		if key.repository == repository {
			c.remove(e)
		}
	}
}

func (c *cache) remove(e *list.Element) {
	entry := c.recent.Remove(e).(*cacheEntry)
	delete(c.entries, entry.key)
	c.size -= entryCost + len(entry.manifest.Payload)
}
