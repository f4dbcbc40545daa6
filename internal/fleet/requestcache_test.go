package fleet

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

func TestCachedChangesEqualTheFeed(t *testing.T) {
	c := storagetest.New(t, storage.Options{})
	const repositories = repositoriesPage + 10
	for i := range repositories {
		repository := fmt.Sprintf("app/%04d", i)
		c.Push(repository, c.Image(repository, "config"), "v1")
	}
	err := c.View(t.Context(), func(v *storage.View) error {
		cache, err := newRequestCache(v)
		if err != nil {
			return err
		}
		for _, after := range []int64{cache.head, cache.head - 3, 5, 700, 0, 5, cache.head + 1} {
			want, err := v.Feed(after, 2*repositories)
			if err != nil {
				return err
			}
			got, err := cache.changedSince(v, after)
			if err != nil {
				return err
			}
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("after %d: %s", after, diff)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
