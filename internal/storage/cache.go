package storage

import (
	"container/list"
	"sync"
)

// cacheSize is the limit for all payloads in the cache, in bytes. It contains no payloads of
// large manifests.
const cacheSize = 8 << 20

// entryCost is roughly the memory that an entry takes in addition to its payload, in bytes.
const entryCost = 512

// A cache keeps the manifests that were read last, by repository and reference.
//
// A manifest is put with the generation that was current before it was read from the database.
// Each write raises the generation. A manifest of an older generation may be stale, and is not
// kept.
type cache struct {
	mu         sync.Mutex
	max, size  int
	generation uint64
	entries    map[cacheKey]*list.Element // of *cacheEntry
	recent     *list.List                 // most recently used first
}

type cacheKey struct{ repository, reference string }

type cacheEntry struct {
	key      cacheKey
	manifest *Manifest
}

func newCache(size int) *cache {
	return &cache{max: size, entries: map[cacheKey]*list.Element{}, recent: list.New()}
}

// get returns the manifest, or nil and the generation for put.
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

// forget removes the manifests of references of repository, after these were written.
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

// forgetRepository removes all manifests of repository.
func (c *cache) forgetRepository(repository string) {
	c.forgetIf(func(key cacheKey) bool { return key.repository == repository })
}

// forgetIf removes all manifests for which stale returns true.
func (c *cache) forgetIf(stale func(cacheKey) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for key, e := range c.entries {
		if stale(key) {
			c.remove(e)
		}
	}
}

// holder returns a manifest of repository for which holds is true; nil is none.
func (c *cache) holder(repository string, holds func(*Manifest) bool) *Manifest {
	c.mu.Lock()
	var all []*Manifest
	for key, e := range c.entries {
		if key.repository == repository {
			all = append(all, e.Value.(*cacheEntry).manifest)
		}
	}
	c.mu.Unlock()
	for _, m := range all {
		if holds(m) {
			return m
		}
	}
	return nil
}

func (c *cache) remove(e *list.Element) {
	entry := c.recent.Remove(e).(*cacheEntry)
	delete(c.entries, entry.key)
	c.size -= entryCost + len(entry.manifest.Payload)
}
