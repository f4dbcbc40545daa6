package metadb

import (
	"bytes"
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"github.com/pressly/goose/v3"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

//go:embed migrations/*.sql
var migrations embed.FS

// A dialect is all that differs between SQLite and PostgreSQL. All other SQL runs on both.
type dialect struct {
	postgres bool
	dsn      string // the URL, or SQLite's path
}

func parse(rawURL string) (dialect, error) {
	switch {
	case strings.HasPrefix(rawURL, "sqlite:"):
		return dialect{dsn: strings.TrimPrefix(rawURL, "sqlite:")}, nil
	case strings.HasPrefix(rawURL, "postgres://"), strings.HasPrefix(rawURL, "postgresql://"):
		if _, err := url.Parse(rawURL); err != nil {
			return dialect{}, fmt.Errorf("database URL is malformed") // its text may contain a password
		}
		return dialect{postgres: true, dsn: rawURL}, nil
	}
	return dialect{}, fmt.Errorf("database URL must begin with sqlite: or postgres://")
}

// isNew reports whether the database does not exist yet. On PostgreSQL it always exists.
func (d dialect) isNew() (bool, error) {
	if d.postgres {
		return false, nil
	}
	info, err := os.Stat(d.dsn)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && info.Size() == 0, err
}

// protect creates the file, and denies others access to it and to the files that SQLite creates
// beside it. SQLite gives those the mode of the database.
func (d dialect) protect() error {
	if err := os.MkdirAll(filepath.Dir(d.dsn), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(d.dsn, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	for _, path := range []string{d.dsn, d.dsn + "-wal", d.dsn + "-shm"} {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err == nil {
			err = os.Chmod(path, info.Mode()&^0o077)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tables is a query for the number of tables with a name.
func (d dialect) tables() string {
	if d.postgres {
		return `SELECT COUNT(*) FROM pg_tables WHERE schemaname = ANY (current_schemas(false)) AND tablename = $1`
	}
	return `SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name = $1`
}

// viewIsolation gives a reader one state of the database for its whole transaction. On SQLite
// that is always so.
func (d dialect) viewIsolation() sql.IsolationLevel {
	if d.postgres {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

// lockWriters is the first statement of an update, so that there is one writer at a time.
// SQLite needs none, because its transactions begin IMMEDIATE.
func (d dialect) lockWriters() string {
	if d.postgres {
		return `SELECT pg_advisory_xact_lock(7162353)`
	}
	return ""
}

func (db *DB) connect(ctx context.Context) (err error) {
	if db.dialect.postgres {
		db.read, err = sql.Open("pgx", db.dialect.dsn)
		if err != nil {
			return err
		}
		db.read.SetMaxOpenConns(16)
		db.read.SetMaxIdleConns(16)
		db.write = db.read
		return db.read.PingContext(ctx)
	}
	if err := db.dialect.protect(); err != nil {
		return err
	}
	const common = "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)" +
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)"
	path := "file:" + (&url.URL{Path: db.dialect.dsn}).EscapedPath()
	db.write = openWithStatements(&sqlite.Driver{}, path+common+"&_txlock=immediate")
	db.write.SetMaxOpenConns(1)
	if err := db.write.PingContext(ctx); err != nil { // also creates the file, which readers need
		return err
	}
	// Half of SQLite's default cache for each reader, in KiB: the system caches the file, too.
	db.read = openWithStatements(&sqlite.Driver{}, path+common+"&_pragma=query_only(1)&_pragma=cache_size(-1000)")
	readers := max(4, runtime.GOMAXPROCS(0))
	db.read.SetMaxOpenConns(readers)
	db.read.SetMaxIdleConns(readers)
	return nil
}

// IsFull reports whether err says that the database's disk is full.
func IsFull(err error) bool {
	if s := (*sqlite.Error)(nil); errors.As(err, &s) {
		// SQLite reports an I/O error if the index of its log does not fit on the disk.
		return s.Code()&0xff == sqlite3.SQLITE_FULL || s.Code() == sqlite3.SQLITE_IOERR_SHMSIZE
	}
	p := (*pgconn.PgError)(nil)
	return errors.As(err, &p) && p.Code == "53100" // disk_full
}

// migrations returns the migrations to this program's version of the schema.
func (db *DB) migrations() (*goose.Provider, error) {
	var source fs.FS
	source, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	name, options := goose.DialectPostgres, []goose.ProviderOption{goose.WithSessionLocker(migrationLock{})}
	if !db.dialect.postgres {
		name, source, options = goose.DialectSQLite3, withoutCollation{source}, nil
	}
	return goose.NewProvider(name, db.write, source, options...)
}

// A migrationLock lets one of several servers that start on a PostgreSQL database migrate it,
// while the others wait.
type migrationLock struct{}

// SessionLock implements goose's lock.SessionLocker.
func (migrationLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `SELECT pg_advisory_lock(7162354)`)
	return err
}

// SessionUnlock implements goose's lock.SessionLocker.
func (migrationLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, `SELECT pg_advisory_unlock(7162354)`)
	return err
}

// withoutCollation is a file system that removes the words COLLATE "C" from its files, because
// SQLite neither knows nor needs them.
type withoutCollation struct{ fs.FS }

func (w withoutCollation) Open(name string) (fs.File, error) {
	f, err := w.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if _, ok := f.(fs.ReadDirFile); ok {
		return f, nil
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, err
	}
	return &file{File: f, Reader: bytes.NewReader(bytes.ReplaceAll(text, []byte(` COLLATE "C"`), nil))}, nil
}

type file struct {
	fs.File
	*bytes.Reader
}

func (f *file) Read(p []byte) (int, error) { return f.Reader.Read(p) }
