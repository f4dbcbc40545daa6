package metadb_test

import (
	"errors"
	"path/filepath"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

func TestUptimeIsReadWhenTheDatabaseIsOpened(t *testing.T) {
	for name, url := range map[string]func() string{
		"sqlite":   func() string { return "sqlite:" + filepath.Join(t.TempDir(), "ferry.db") },
		"postgres": func() string { return dbtest.PostgresURL(t) },
	} {
		t.Run(name, func(t *testing.T) {
			if name == "postgres" && testing.Short() {
				t.Skip("its SQL and its Go are those of SQLite")
			}
			url := url()
			for start, want := range []metadb.Uptime{0, noon} {
				db, err := metadb.Open(t.Context(), url)
				if err != nil {
					t.Fatal(err)
				}
				if got := db.Uptime(); got != want {
					t.Errorf("start %d: the uptime is %d, want %d", start, got, want)
				}
				update(t, db, func(tx *metadb.Tx) error { // another process may have noted a later one
					return errors.Join(tx.SaveUptime(noon), tx.SaveUptime(noon-1))
				})
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
