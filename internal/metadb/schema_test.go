package metadb_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// urls calls test with the URL of an empty database of each kind, and with another driver and
// data source for the same database.
func urls(t *testing.T, test func(t *testing.T, address, driver, source string)) {
	t.Run("sqlite", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "a #?% directory", "ferry.db")
		test(t, "sqlite:"+path, "sqlite", "file:"+(&url.URL{Path: path}).EscapedPath())
	})
	t.Run("postgres", func(t *testing.T) {
		address := dbtest.PostgresURL(t)
		test(t, address, "pgx", address)
	})
}

func open(t *testing.T, address string) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestDatabaseOfANewerVersionIsRefusedUnchanged(t *testing.T) {
	urls(t, func(t *testing.T, address, driver, source string) {
		db := open(t, address)
		update(t, db, func(tx *metadb.Tx) error { return tx.TouchRepository("a", epoch) })
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		raw, err := sql.Open(driver, source)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		for _, statement := range []string{
			`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9999, true)`,
			`ALTER TABLE repositories RENAME TO folders`,
		} {
			if _, err := raw.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := metadb.Open(t.Context(), address); !errors.Is(err, metadb.ErrNewer) {
			t.Fatalf("Open = %v, want %v", err, metadb.ErrNewer)
		}
		var repositories, version int
		if err := raw.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM folders`).Scan(&repositories); err != nil ||
			repositories != 1 {
			t.Errorf("the newer table has %d rows, %v; want 1", repositories, err)
		}
		if err := raw.QueryRowContext(t.Context(),
			`SELECT MAX(version_id) FROM goose_db_version`).Scan(&version); err != nil || version != 9999 {
			t.Errorf("the version is %d, %v; want 9999", version, err)
		}
	})
}

func TestReopenedDatabaseKeepsItsContent(t *testing.T) {
	urls(t, func(t *testing.T, address, _, _ string) {
		db := open(t, address)
		update(t, db, func(tx *metadb.Tx) error { return tx.TouchRepository("a", epoch) })
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		view(t, open(t, address), func(tx *metadb.Tx) error {
			_, err := tx.Repository("a")
			return err
		})
	})
}

func TestServersThatStartTogetherMigrateOnce(t *testing.T) {
	openTogether(t, dbtest.PostgresURL(t))
}

// openTogether opens a database as four programs that start at the same time.
func openTogether(t *testing.T, address string) {
	t.Helper()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			db, err := metadb.Open(t.Context(), address)
			if err != nil {
				t.Error(err)
				return
			}
			db.Close()
		})
	}
	all.Wait()
}

// TestUpdatesComeOneAfterAnother makes each update read and then write: if two of them read the
// same value, the sum is too small.
func TestUpdatesComeOneAfterAnother(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		const writers, each = 8, 10
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					err := db.Update(t.Context(), func(tx *metadb.Tx) error {
						value, err := tx.Setting("x")
						if err != nil {
							return err
						}
						return tx.SetSetting("x", value+"x")
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		all.Wait()
		view(t, db, func(tx *metadb.Tx) error {
			value, err := tx.Setting("x")
			if len(value) != writers*each {
				t.Errorf("%d of %d updates are left", len(value), writers*each)
			}
			return err
		})
	})
}

func TestViewCannotWriteAndSeesOneState(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		if err := db.View(t.Context(), func(tx *metadb.Tx) error { return tx.SetSetting("x", "1") }); err == nil {
			t.Error("a write in a View succeeded")
		}
		view(t, db, func(tx *metadb.Tx) error {
			before, err := tx.Setting("x")
			if err != nil {
				return err
			}
			update(t, db, func(tx *metadb.Tx) error { return tx.SetSetting("x", "2") })
			after, err := tx.Setting("x")
			if before != "" || after != "" {
				t.Errorf("a View saw %q and then %q", before, after)
			}
			return err
		})
	})
}

func TestFailedOrCancelledUpdateChangesNothing(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		ctx, cancel := context.WithCancel(t.Context())
		err := db.Update(ctx, func(tx *metadb.Tx) error {
			defer cancel()
			return tx.SetSetting("x", "1")
		})
		if err == nil {
			t.Error("a cancelled Update succeeded")
		}
		view(t, db, func(tx *metadb.Tx) error {
			value, err := tx.Setting("x")
			if value != "" {
				t.Errorf("a cancelled Update left %q", value)
			}
			return err
		})
		update(t, db, func(tx *metadb.Tx) error { return tx.SetSetting("x", "2") }) // and the next one is unharmed
	})
}

func TestErrorOfABadDatabaseURLHidesThePassword(t *testing.T) {
	for _, address := range []string{
		"mysql://u:secret@h/db", "postgres://u:secret@h:port/db", "secret", "",
		"postgres://u:secret@127.0.0.1:1/db?connect_timeout=1",
		"postgres://u:secret@127.0.0.1:1/db?sslmode=nonsense",
	} {
		db, err := metadb.Open(t.Context(), address)
		if err == nil {
			db.Close()
			t.Errorf("Open(%q) succeeded", address)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("Open(%q) = %v", address, err)
		}
	}
}

func TestFileOfAnotherFormatIsRefusedUnchanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ferry.db")
	text := strings.Repeat("not a database\n", 1000)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := metadb.Open(t.Context(), "sqlite:"+path); err == nil {
		t.Fatal("Open succeeded")
	}
	if got, _ := os.ReadFile(path); string(got) != text {
		t.Error("the file was changed")
	}
}

func TestDatabaseOfAnotherBuildIsRefusedUnchanged(t *testing.T) {
	urls(t, func(t *testing.T, address, driver, source string) {
		db := open(t, address)
		update(t, db, func(tx *metadb.Tx) error { return tx.TouchRepository("a", epoch) })
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		raw, err := sql.Open(driver, source)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		if _, err := raw.ExecContext(t.Context(), `ALTER TABLE repositories RENAME TO folders`); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := metadb.Open(t.Context(), address); !errors.Is(err, metadb.ErrOtherSchema) {
				t.Errorf("Open = %v, want %v", err, metadb.ErrOtherSchema)
			}
		}
	})
}
