package metadb_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestRolledBackChangeTakesNoNumber(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		advance := func(tx *metadb.Tx) error {
			_, err := tx.AdvanceFeed("a", noon)
			return err
		}
		update(t, db, advance)
		stop := errors.New("stop")
		if err := db.Update(t.Context(),
			func(tx *metadb.Tx) error { return errors.Join(advance(tx), stop) }); !errors.Is(err, stop) {
			t.Fatalf("Update = %v, want %v", err, stop)
		}
		update(t, db, advance)
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Feed(0, 10)
			if diff := cmp.Diff([]metadb.FeedEntry{{Repository: "a", Seq: 2, PrevSeq: 1}}, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	})
}

// TestTrimmedTombstonesAreCoveredAfterAClockStep removes an item at each of some times, and
// trims the removals before the third second.
func TestTrimmedTombstonesAreCoveredAfterAClockStep(t *testing.T) {
	for _, tc := range []struct {
		at     []int
		relist int64
	}{
		{[]int{1, 2, 3, 4}, 2},
		{[]int{5, 1, 6, 7}, 2}, // the clock went back once
		{[]int{9, 9, 9, 1}, 4}, // and here, permanently
		{[]int{4, 5}, 0},
	} {
		t.Run(fmt.Sprint(tc.at), func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
				second := func(n int) metadb.Uptime { return noon.Add(time.Duration(n) * time.Second) }
				update(t, db, func(tx *metadb.Tx) error {
					if err := tx.TouchRepository("a", epoch); err != nil {
						return err
					}
					for i, at := range tc.at {
						seq, err := tx.AdvanceFeed("a", second(at))
						if err != nil {
							return err
						}
						if err := tx.PutTombstone("a", fmt.Sprint("v", i), seq, second(at)); err != nil {
							return err
						}
					}
					return nil
				})
				for more := true; more; {
					update(t, db, func(tx *metadb.Tx) (err error) {
						more, err = tx.TrimFeed(second(3), 1)
						return err
					})
				}
				view(t, db, func(tx *metadb.Tx) error {
					entry, err := tx.FeedEntry("a")
					if entry.RelistSeq != tc.relist || entry.Seq != int64(len(tc.at)) {
						t.Errorf("the feed has %+v, want a complete listing up to %d", entry, tc.relist)
					}
					return err
				})
			})
		})
	}
}

func TestChangedScopeMapTakesASequenceNumber(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		put := func(description string, actions ...string) (seq int64) {
			t.Helper()
			update(t, db, func(tx *metadb.Tx) error {
				if err := tx.PutScopeMap(metadb.ScopeMap{Name: "m", Description: description,
					Actions: actions}); err != nil {
					return err
				}
				m, err := tx.ScopeMap("m")
				seq = m.Seq
				return err
			})
			return seq
		}
		read, list, poll := "repositories/a/content/read", "repositories/a/metadata/read", "gateway/ship/message/read"
		for i, got := range []int64{put("first", read), put("second", read), put("second", read, poll),
			put("second", read, list)} {
			if want := []int64{1, 1, 1, 2}[i]; got != want {
				t.Errorf("put %d has number %d, want %d", i, got, want)
			}
		}
	})
}
