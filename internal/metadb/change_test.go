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

// seqs returns the numbers of the changes that are kept.
func seqs(t *testing.T, db *metadb.DB) (numbers []int64) {
	t.Helper()
	view(t, db, func(tx *metadb.Tx) error {
		all, err := tx.Changes(0, 100)
		for _, c := range all {
			numbers = append(numbers, c.Seq)
		}
		return err
	})
	return numbers
}

func TestAChangeThatIsRolledBackLeavesNoGap(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		add := func(tx *metadb.Tx) error {
			_, err := tx.AddChange(metadb.Change{Kind: "k", Repository: "a", Tag: "t", Digest: "d", Former: "f g", Origin: "o", At: epoch})
			return err
		}
		update(t, db, add)
		stop := errors.New("stop")
		if err := db.Update(t.Context(), func(tx *metadb.Tx) error { return errors.Join(add(tx), stop) }); !errors.Is(err, stop) {
			t.Fatalf("Update = %v, want %v", err, stop)
		}
		update(t, db, add)
		view(t, db, func(tx *metadb.Tx) error {
			got, err := tx.Changes(1, 10)
			want := []metadb.Change{{Seq: 2, Kind: "k", Repository: "a", Tag: "t", Digest: "d", Former: "f g", Origin: "o", At: epoch}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return err
		})
	})
}

func TestTrimmingLeavesNoGapWhateverTheClockDid(t *testing.T) {
	for _, tc := range []struct {
		at   []int // the time of change 1, 2, ..., in seconds
		want []int64
	}{
		{[]int{1, 2, 3, 4}, []int64{3, 4}},
		{[]int{5, 1, 6, 7}, []int64{3, 4}}, // the clock went back once
		{[]int{9, 9, 9, 1}, nil},           // and here, for good
		{[]int{4, 5}, []int64{1, 2}},
		{nil, nil},
	} {
		t.Run(fmt.Sprint(tc.at), func(t *testing.T) {
			dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
				second := func(n int) time.Time { return epoch.Add(time.Duration(n) * time.Second) }
				update(t, db, func(tx *metadb.Tx) error {
					for _, at := range tc.at {
						if _, err := tx.AddChange(metadb.Change{At: second(at)}); err != nil {
							return err
						}
					}
					return tx.TrimChanges(second(3))
				})
				if diff := cmp.Diff(tc.want, seqs(t, db)); diff != "" {
					t.Error(diff)
				}
				view(t, db, func(tx *metadb.Tx) error {
					oldest, head, err := tx.FeedBounds()
					want := int64(len(tc.at)) + 1
					if len(tc.want) > 0 {
						want = tc.want[0]
					}
					if oldest != want || head != int64(len(tc.at)) {
						t.Errorf("FeedBounds = %d, %d; want %d, %d", oldest, head, want, len(tc.at))
					}
					return err
				})
			})
		})
	}
}
