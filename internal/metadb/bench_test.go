package metadb_test

import (
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// BenchmarkUpdate is one small write at a time.
func BenchmarkUpdate(b *testing.B) {
	for name, db := range map[string]*metadb.DB{"sqlite": dbtest.SQLite(b), "postgres": dbtest.Postgres(b)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				err := db.Update(b.Context(), func(tx *metadb.Tx) error { return tx.SetSetting("x", "y") })
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
