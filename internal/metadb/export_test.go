package metadb

import (
	"context"
	"time"
)

// Versions is the number of versions of the schema.
func Versions() int { return len(columnsOf()) - 1 }

// ColumnsOf returns the hash of the columns of a version.
func ColumnsOf(version int) string { return columnsOf()[version] }

// Columns returns the hash of the columns in db.
func (db *DB) Columns(ctx context.Context) (string, error) {
	return Read(ctx, db, func(tx *Tx) (string, error) { return tx.columns(db.dialect) })
}

// Exec runs one statement.
func (db *DB) Exec(ctx context.Context, query string, args ...any) error {
	return db.Update(ctx, func(tx *Tx) error { return tx.do("exec", query, args...) })
}

// OpenAt opens a new database and migrates it to a version only, and further with the
// statements of more.
func OpenAt(ctx context.Context, url string, version int, more ...string) (*DB, error) {
	d, err := parse(url)
	if err != nil {
		return nil, err
	}
	db := &DB{dialect: d}
	if err := db.connect(ctx, Options{}); err != nil {
		return nil, err
	}
	all, err := d.migrations()
	if err != nil {
		return nil, err
	}
	all = all[:version:version]
	if more != nil {
		all = append(all, migration{name: "more.sql", statements: more})
	}
	return db, db.Update(ctx, func(tx *Tx) error { return tx.migrate(db, all, compatibleFrom) })
}

// MigrateOn migrates a database of the newest version with the statements of more, as a newer program does
// beside which those of the version oldest may run.
func (db *DB) MigrateOn(ctx context.Context, oldest int, more ...string) error {
	all, err := db.dialect.migrations()
	if err != nil {
		return err
	}
	all = append(all, migration{name: "more.sql", statements: more})
	return db.Update(ctx, func(tx *Tx) error { return tx.migrate(db, all, oldest) })
}

// SetCheck sets how often the session is checked.
func (s *Session) SetCheck(every time.Duration) { s.check = every }

// Backend returns the process of PostgreSQL that has the session.
func (s *Session) Backend() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now.pg.PgConn().PID()
}

// URL returns the URL with which the database was opened.
func (db *DB) URL() string {
	if db.dialect.postgres {
		return db.dialect.dsn
	}
	return "sqlite:" + db.dialect.dsn
}

// CountWaiting returns how many connections wait for the writers' lock.
func (tx *Tx) CountWaiting() (int, error) {
	return get[int](tx, "count waiting", `SELECT COUNT(*) FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event = 'advisory'`)
}

// StealOwnership ends the session that owns the database, and gives the ownership to another one.
func (db *DB) StealOwnership(ctx context.Context, other *Session) *Lock {
	for {
		if id, ok := db.owner.id(); ok {
			db.owner.lost(id)
		}
		if l, err := other.TryLock(ctx, ownerKey); l != nil || err != nil {
			return l
		}
	}
}
