package metadb_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestMovedTagKeepsItsCreationTimeAndLocks(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		later := epoch.Add(time.Minute)
		update(t, db, func(tx *metadb.Tx) error {
			return errors.Join(tx.SetTag("a", "b", "m1", 1, epoch), tx.SetTagLocks("a", "b", 4, 0),
				tx.SetTag("a", "b", "m2", 2, later),
				tx.SetTag("a", "B", "m2", 0, later), tx.SetTag("a", "hidden", "m3", 0, later),
				tx.SetTagLocks("a", "hidden", 8, 0))
		})
		b := metadb.Tag{Repository: "a", Name: "b", Digest: "m2", CreatedAt: epoch, UpdatedAt: later, Locks: 4, Seq: 2}
		upper := metadb.Tag{Repository: "a", Name: "B", Digest: "m2", CreatedAt: later, UpdatedAt: later}
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Tag("a", "b")
			if diff := cmp.Diff(b, got); diff != "" {
				t.Error(diff)
			}
			all, listErr := tx.Tags("a", metadb.TagOrder{}, 10, 8)
			if diff := cmp.Diff([]metadb.Tag{upper, b}, all); diff != "" {
				t.Error(diff)
			}
			of, ofErr := tx.TagsOf("a", "m2")
			if diff := cmp.Diff([]metadb.Tag{upper, b}, of); diff != "" {
				t.Error(diff)
			}
			rest, restErr := tx.Tags("a", metadb.TagOrder{After: metadb.Tag{Name: "B"}}, 1, 0)
			if diff := cmp.Diff([]metadb.Tag{b}, rest); diff != "" {
				t.Error(diff)
			}
			sorted, sortedErr := tx.Tags("a", metadb.TagOrder{Digest: "m2"}, 10, 8)
			if diff := cmp.Diff([]metadb.Tag{upper, b}, sorted); diff != "" {
				t.Error(diff)
			}
			return errors.Join(err, listErr, ofErr, restErr, sortedErr)
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.DeleteTag("a", "b") })
		for action, write := range map[string]func(tx *metadb.Tx) error{
			"delete": func(tx *metadb.Tx) error { return tx.DeleteTag("a", "b") },
			"lock":   func(tx *metadb.Tx) error { return tx.SetTagLocks("a", "b", 1, 0) },
		} {
			if err := db.Update(t.Context(), write); !errors.Is(err, metadb.ErrNotFound) {
				t.Errorf("%s a tag that is gone: %v, want %v", action, err, metadb.ErrNotFound)
			}
		}
	})
}

func TestTagsArePagedByTime(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		update(t, db, func(tx *metadb.Tx) error {
			var err error
			for i, name := range []string{"d", "b", "c", "a", "e", "hidden"} { // b, c and a moved at once
				digest := "m" + string(rune('1'+i%2))
				err = errors.Join(err, tx.SetTag("a", name, digest, 0, epoch.Add(time.Duration((i+2)/3)*time.Minute)))
			}
			return errors.Join(err, tx.SetTagLocks("a", "hidden", 8, 0), tx.SetTag("other", "x", "m1", 0, epoch))
		})
		for want, o := range map[string]metadb.TagOrder{
			"d a b c e": {ByTime: true},
			"e c b a d": {ByTime: true, Newest: true},
			"a b c d e": {},
			"d c e":     {ByTime: true, Digest: "m1"},
			"a b":       {Digest: "m2"},
		} {
			got := ""
			view(t, db, func(tx *metadb.Tx) error {
				for {
					page, err := tx.Tags("a", o, 2, 8)
					for _, tag := range page {
						got += " " + tag.Name
						o.After = tag
					}
					if err != nil || len(page) < 2 {
						return err
					}
				}
			})
			if got != " "+want {
				t.Errorf("got%s, want %s", got, want)
			}
		}
	})
}
