package storage

import "sync"

// keyLock is a mutex for each key, for as long as somebody holds or awaits it.
type keyLock struct {
	mu    sync.Mutex
	locks map[string]*keyLockEntry
}

type keyLockEntry struct {
	sync.Mutex
	users int
}

// lock waits for key and returns its unlock.
func (k *keyLock) lock(key string) (unlock func()) {
	e, _ := k.enter(key, true)
	e.Lock()
	return func() { k.leave(key, e) }
}

// tryLock is lock, but does not wait: ok is false while key is held.
func (k *keyLock) tryLock(key string) (unlock func(), ok bool) {
	e, ok := k.enter(key, false)
	if !ok {
		return nil, false
	}
	e.Lock() // nobody else has the entry but those who will wait for it
	return func() { k.leave(key, e) }, true
}

// enter counts its caller among key's users; a caller that does not share is
// turned away when there are others.
func (k *keyLock) enter(key string, share bool) (*keyLockEntry, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.locks[key]
	if e != nil && !share {
		return nil, false
	}
	if e == nil {
		if k.locks == nil {
			k.locks = map[string]*keyLockEntry{}
		}
		e = &keyLockEntry{}
		k.locks[key] = e
	}
	e.users++
	return e, true
}

func (k *keyLock) leave(key string, e *keyLockEntry) {
	e.Unlock()
	k.mu.Lock()
	defer k.mu.Unlock()
	if e.users--; e.users == 0 {
		delete(k.locks, key)
	}
}
