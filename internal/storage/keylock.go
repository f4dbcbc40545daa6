package storage

import (
	"slices"
	"sync"
)

// A keyLock is a mutex for each key. It keeps only keys that are locked or awaited.
type keyLock struct {
	mu    sync.Mutex
	locks map[string]*keyLockEntry
}

type keyLockEntry struct {
	sync.Mutex
	users int
}

// lock waits for key, and returns the function that unlocks it.
func (k *keyLock) lock(key string) (unlock func()) {
	k.mu.Lock()
	e := k.locks[key]
	if e == nil {
		defer k.mu.Unlock()
		return k.begin(key)
	}
	e.users++
	k.mu.Unlock()
	e.Lock()
	return func() { k.leave(key, e) }
}

// lockAll locks several keys, in order, so that two callers never wait for each other.
func (k *keyLock) lockAll(keys []string) (unlock func()) {
	var unlocks []func()
	for _, key := range slices.Compact(slices.Sorted(slices.Values(keys))) {
		unlocks = append(unlocks, k.lock(key))
	}
	return func() {
		for _, unlock := range unlocks {
			unlock()
		}
	}
}

// tryLock is lock without waiting: ok is false if key is locked or awaited.
func (k *keyLock) tryLock(key string) (unlock func(), ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.locks[key] != nil {
		return nil, false
	}
	return k.begin(key), true
}

// begin locks a key that nobody has locked. The caller holds mu.
func (k *keyLock) begin(key string) (unlock func()) {
	if k.locks == nil {
		k.locks = map[string]*keyLockEntry{}
	}
	e := &keyLockEntry{users: 1}
	e.Lock()
	k.locks[key] = e
	return func() { k.leave(key, e) }
}

func (k *keyLock) leave(key string, e *keyLockEntry) {
	e.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(k.locks, key)
	}
}
