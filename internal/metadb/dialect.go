package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite" // the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

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

// columns is a query for the columns of all tables, as "table.column".
func (d dialect) columns() string {
	if d.postgres {
		return `SELECT table_name || '.' || column_name FROM information_schema.columns
			WHERE table_schema = ANY (current_schemas(false))`
	}
	return `SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'`
}

// viewIsolation gives a reader one state of the database for its whole transaction. On SQLite
// that is always so.
func (d dialect) viewIsolation() sql.IsolationLevel {
	if d.postgres {
		return sql.LevelRepeatableRead
	}
	return sql.LevelDefault
}

func (db *DB) connect(ctx context.Context, o Options) error {
	if db.dialect.postgres {
		return db.connectPostgres(ctx, o)
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
	// A quarter of SQLite's default cache for each reader, in KiB: the system caches the file, too.
	db.read = openWithStatements(&sqlite.Driver{}, path+common+"&_pragma=query_only(1)&_pragma=cache_size(-500)")
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
