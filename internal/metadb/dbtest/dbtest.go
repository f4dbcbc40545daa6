// Package dbtest runs tests on every database that Ferry supports.
package dbtest

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"ferry/internal/metadb"
)

// Run runs test once on a fresh SQLite database and once on a fresh PostgreSQL database. If
// PostgreSQL is not installed, that part is skipped, except in CI (the environment variable CI
// is set), where it fails. With -short, only SQLite is tested.
func Run(t *testing.T, test func(t *testing.T, db *metadb.DB)) {
	t.Run("sqlite", func(t *testing.T) { test(t, SQLite(t)) })
	t.Run("postgres", func(t *testing.T) {
		if testing.Short() {
			t.Skip("its SQL and its Go are those of SQLite")
		}
		test(t, Postgres(t))
	})
}

// SQLite returns a fresh database that is closed when the test ends.
func SQLite(t testing.TB) *metadb.DB {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ferry.db")
	if err := Prepare(path); err != nil {
		t.Fatal(err)
	}
	return open(t, "sqlite:"+path)
}

// Prepare writes an empty, migrated SQLite database to path, unless the file exists. A copy
// takes a fraction of the time of the migrations, which wait for the disk.
func Prepare(path string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	content, err := empty()
	if err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// empty returns the content of an empty SQLite database, which is created once.
var empty = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "ferry-db-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "ferry.db")
	if err := migrate("sqlite:" + path); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// migrate creates the tables of the empty database at url.
func migrate(url string) error {
	db, err := metadb.Open(context.Background(), url)
	if err != nil {
		return err
	}
	return db.Close()
}

// Postgres returns a fresh database on a server that this process starts once. See [Run] for
// machines without PostgreSQL.
func Postgres(t testing.TB) *metadb.DB {
	t.Helper()
	return open(t, copyOf(t, (*shared).migrated))
}

// Processes returns a fresh PostgreSQL database as n processes of a root have it.
func Processes(t testing.TB, n int) (all []*metadb.DB) {
	t.Helper()
	url := copyOf(t, (*shared).migrated)
	for range n {
		db := open(t, url)
		db.Share()
		all = append(all, db)
	}
	return all
}

func open(t testing.TB, url string) *metadb.DB {
	t.Helper()
	db, err := metadb.Open(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// PostgresURL creates a database without tables and returns its URL.
func PostgresURL(t testing.TB) string {
	t.Helper()
	return copyOf(t, func(*shared) (string, error) { return "template1", nil })
}

// copyOf copies a database of the shared server, and returns the copy's URL. The function
// template returns the name of the database to copy.
func copyOf(t testing.TB, template func(*shared) (string, error)) string {
	t.Helper()
	requirePostgres(t)
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	from, err := template(s)
	if err != nil {
		t.Fatal(err)
	}
	name := "t" + strings.ToLower(rand.Text())
	if err := s.create(name, from); err != nil {
		t.Fatal(err)
	}
	return s.URL(name)
}

// shared is the one server of all tests of this process that need only databases.
type shared struct {
	*Server
	mu       sync.Mutex
	admin    *pgx.Conn              // creates databases; guarded by mu
	template func() (string, error) // creates a database with tables, once
}

// create creates one database at a time.
func (s *shared) create(name, template string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return create(s.admin, name, template)
}

// migrated returns the name of a database with tables.
func (s *shared) migrated() (string, error) { return s.template() }

// start starts the shared server, once.
var start = sync.OnceValues(func() (*shared, error) {
	server, err := newServer()
	if err != nil {
		return nil, err
	}
	s := &shared{Server: server}
	if s.admin, err = pgx.Connect(context.Background(), s.URL("postgres")); err != nil {
		return nil, err
	}
	s.template = sync.OnceValues(func() (string, error) {
		const name = "migrated"
		if err := s.create(name, "template1"); err != nil {
			return "", err
		}
		return name, migrate(s.URL(name))
	})
	return s, nil
})
