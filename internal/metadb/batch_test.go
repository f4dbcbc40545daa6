package metadb_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestUpdatesTogetherAreEachWrittenOrRefused(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		refused := errors.New("refused")
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				err := db.UpdateTogether(t.Context(), func(tx *metadb.Tx) error {
					if err := tx.SetSetting(fmt.Sprint("n", i), "x"); err != nil {
						return err
					}
					if i%10 == 0 {
						return refused
					}
					return nil
				})
				if want := i%10 == 0; errors.Is(err, refused) != want || err != nil && !want {
					t.Errorf("update %d = %v", i, err)
				}
			})
		}
		all.Wait()
		view(t, db, func(tx *metadb.Tx) error {
			for i := range 100 {
				value, err := tx.Setting(fmt.Sprint("n", i))
				if err != nil {
					return err
				}
				if written := value != ""; written != (i%10 != 0) {
					t.Errorf("update %d is written: %t", i, written)
				}
			}
			return nil
		})
	})
}
