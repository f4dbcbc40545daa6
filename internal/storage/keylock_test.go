package storage

import (
	"sync"
	"testing"
)

func TestKeyHasOneHolderAtATime(t *testing.T) {
	var k keyLock
	counts := map[string]*int{"a": new(int), "b": new(int)}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 500 {
				for key, n := range counts {
					if i%2 == 0 {
						unlock := k.lock(key)
						*n++ // the race detector and the sum see a second holder
						unlock()
					} else if unlock, ok := k.tryLock(key); ok {
						*n += 0
						unlock()
					}
				}
			}
		})
	}
	all.Wait()
	for key, n := range counts {
		if *n != 4*500 {
			t.Errorf("%s was counted up %d times, want %d", key, *n, 4*500)
		}
	}
	if len(k.locks) != 0 {
		t.Errorf("%d locks are left", len(k.locks))
	}
}

func TestTryLockDoesNotWait(t *testing.T) {
	var k keyLock
	unlock := k.lock("a")
	if _, ok := k.tryLock("a"); ok {
		t.Error("a held key was locked")
	}
	other, ok := k.tryLock("b")
	if !ok {
		t.Fatal("another key was not locked")
	}
	other()
	unlock()
	again, ok := k.tryLock("a")
	if !ok {
		t.Fatal("a key that was let go was not locked")
	}
	again()
}
