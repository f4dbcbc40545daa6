package metadb_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// urls calls test with the URL of an empty database of each kind, and with
// the driver and data source that reach the same one by another way.
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

func TestADatabaseOfANewerVersionIsRefusedUnchanged(t *testing.T) {
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
		if err := raw.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM folders`).Scan(&repositories); err != nil || repositories != 1 {
			t.Errorf("the newer table has %d rows, %v; want 1", repositories, err)
		}
		if err := raw.QueryRowContext(t.Context(), `SELECT MAX(version_id) FROM goose_db_version`).Scan(&version); err != nil || version != 9999 {
			t.Errorf("the version is %d, %v; want 9999", version, err)
		}
	})
}

func TestAnOpenedDatabaseKeepsWhatItHad(t *testing.T) {
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

// TestWhatAnOlderVersionNotedStillCounts turns the schema back by hand to the
// first version's.
func TestWhatAnOlderVersionNotedStillCounts(t *testing.T) {
	urls(t, func(t *testing.T, address, driver, source string) {
		if err := open(t, address).Close(); err != nil {
			t.Fatal(err)
		}
		first, err := os.ReadFile("migrations/0001_initial.sql")
		if err != nil {
			t.Fatal(err)
		}
		table := regexp.MustCompile(`(?s)CREATE TABLE sync_items \(.*?\n\);`).FindString(string(first))
		if driver == "sqlite" {
			table = strings.ReplaceAll(table, `COLLATE "C"`, "")
		}
		raw, err := sql.Open(driver, source)
		if err != nil {
			t.Fatal(err)
		}
		for _, statement := range []string{
			`DROP TABLE sync_items`, `DROP TABLE mirror_rules`, `ALTER TABLE tags DROP COLUMN seq`, `ALTER TABLE changes DROP COLUMN former`, `DELETE FROM goose_db_version WHERE version_id > 1`, table,
			`CREATE INDEX sync_items_state ON sync_items (state)`,
			`INSERT INTO sync_items (repository, tag, digest, state, error, changed_at, synced_at, seen, item) VALUES ('a', 'v1', 'sha256:1', 'failed', 'no', 1, 2, 3, 'v1')`,
			`INSERT INTO tags (repository, name, digest, created_at, updated_at) VALUES ('a', 'moved', 'd', 0, 0), ('a', 'old', 'd', 0, 0)`,
			`INSERT INTO changes (seq, kind, repository, tag, digest, origin, at) VALUES (7, 'k', 'a', 'moved', '', '', 0), (8, 'k', 'a', 'moved', '', '', 0), (9, 'k', 'b', 'moved', '', '', 0)`,
		} {
			if _, err := raw.ExecContext(t.Context(), statement); err != nil {
				t.Fatalf("%s: %v", statement, err)
			}
		}
		if err := raw.Close(); err != nil {
			t.Fatal(err)
		}
		view(t, open(t, address), func(tx *metadb.Tx) error {
			got, err := tx.SyncItem(metadb.Parent, "a", "v1")
			want := metadb.SyncItem{
				Repository: "a", Item: "v1", Tag: "v1", Digest: "sha256:1", State: "failed", Error: "no",
				ChangedAt: time.UnixMilli(1).UTC(), SyncedAt: time.UnixMilli(2).UTC(), Seen: 3,
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			for name, seq := range map[string]int64{"moved": 8, "old": 0} {
				if tag, err := tx.Tag("a", name); err != nil || tag.Seq != seq {
					t.Errorf("the tag %s was set by change %d, %v; want %d", name, tag.Seq, err, seq)
				}
			}
			return err
		})
	})
}

func TestServersThatStartTogetherMigrateOnce(t *testing.T) {
	address := dbtest.PostgresURL(t)
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

// TestUpdatesComeOneAfterAnother has each update read and then write: had two
// of them read the same value, the sum would be short.
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

func TestAViewCannotWriteAndSeesOneState(t *testing.T) {
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

func TestAnUpdateThatFailsOrIsCancelledChangesNothing(t *testing.T) {
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

func TestABadDatabaseURLIsNamedWithoutItsPassword(t *testing.T) {
	for _, address := range []string{
		"mysql://u:secret@h/db", "postgres://u:secret@h:port/db", "secret", "", "postgres://u:secret@127.0.0.1:1/db?connect_timeout=1",
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

func TestAFileThatIsNoDatabaseIsRefusedUnchanged(t *testing.T) {
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
