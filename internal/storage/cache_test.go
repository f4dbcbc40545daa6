package storage

import (
	"fmt"
	"testing"
)

func TestCacheDropsValuesReadBeforeAWrite(t *testing.T) {
	c := newCache(cacheSize)
	old := &Manifest{Digest: "old"}
	_, generation := c.get("a", "latest")
	c.forget("a", "latest") // a write between the read and the put
	c.put("a", "latest", old, generation)
	if m, _ := c.get("a", "latest"); m != nil {
		t.Errorf("the cache has %s", m.Digest)
	}
	_, generation = c.get("a", "latest")
	c.put("a", "latest", old, generation)
	if m, _ := c.get("a", "latest"); m != old {
		t.Error("a value that nothing overtook is not kept")
	}
	c.forgetRepository("a")
	c.put("a", "latest", old, generation)
	if m, _ := c.get("a", "latest"); m != nil {
		t.Errorf("after its repository was written, the cache has %s", m.Digest)
	}
}

func TestWriteRemovesOnlyItsReferencesFromTheCache(t *testing.T) {
	c := newCache(cacheSize)
	put := func(repository, reference string) {
		_, generation := c.get(repository, reference)
		c.put(repository, reference, &Manifest{}, generation)
	}
	put("a", "x")
	put("a", "y")
	put("b", "x")
	c.forget("a", "x", "unknown")
	for key, want := range map[cacheKey]bool{{"a", "x"}: false, {"a", "y"}: true, {"b", "x"}: true} {
		if m, _ := c.get(key.repository, key.reference); (m != nil) != want {
			t.Errorf("%v is kept: %v, want %v", key, m != nil, want)
		}
	}
}

func TestCacheStaysWithinItsLimitAndKeepsUsedValues(t *testing.T) {
	const size = 100 << 10
	c := newCache(size)
	put := func(reference string, bytes int) {
		_, generation := c.get("a", reference)
		c.put("a", reference, &Manifest{Payload: make([]byte, bytes)}, generation)
	}
	put("used", 1<<10)
	for i := range 1000 {
		put(fmt.Sprint(i), 1<<10)
		if m, _ := c.get("a", "used"); m == nil {
			t.Fatalf("what is read all the time was dropped at the %dth", i)
		}
		if c.size > size || c.size != len(c.entries)*(entryCost+1<<10) || c.recent.Len() != len(c.entries) {
			t.Fatalf("the cache counts %d bytes for %d entries, at most %d are allowed", c.size, len(c.entries), size)
		}
	}
	if m, _ := c.get("a", "0"); m != nil {
		t.Error("the oldest entry is still there")
	}
	c = newCache(0) // keeps nothing, without error
	put("x", 1)
	if len(c.entries) != 0 || c.size != 0 {
		t.Errorf("a cache of no size has %d entries of %d bytes", len(c.entries), c.size)
	}
}
