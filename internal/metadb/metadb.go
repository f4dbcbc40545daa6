// Package metadb keeps all metadata in SQL, which runs unchanged on SQLite, the embedded
// default, and on PostgreSQL.
//
// All work is done in [DB.View] and [DB.Update]. The methods of [Tx], a file per noun, contain
// all SQL. Updates run one at a time on both databases, so that a method may read, decide and
// write without further locking.
package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"time"
)

// ErrNotFound is returned, wrapped, by methods of [Tx] whose row does not exist.
var ErrNotFound = errors.New("not found")

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect dialect
	read    *sql.DB
	write   *sql.DB // on SQLite a pool of one connection
	batch   batcher
	reserve reserve
	uptime  Uptime // as saved when the database was opened
	process string // identifies this process; "" is the only one; see [DB.Share]

	// The following are for PostgreSQL.
	timeout time.Duration // of a statement
	writers *queue
	outage  *outage
	long    *DB    // see [DB.Long]
	owner   *owner // nil without an [Ownership]
	// together says that the database may be of a newer version, as far as that allows it.
	together bool
}

// A Tx is one transaction; it is read-only in [DB.View], and none at all in [Lookup]. It must not be used
// after the function that received it has returned.
type Tx struct {
	ctx        context.Context
	statements statements
	commit     func() error // on PostgreSQL

	controlRows []ControlRow // written by the transaction
	recording   *recording   // nil records nothing
	committed   []func()     // see [Tx.AfterCommit]
	trouble     trouble      // that a statement met; see [Tx.note]
	run         string       // of the server, if the transaction may write; see [serverRun]
}

// statements run statements in a transaction or, each by itself, without one.
type statements interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// AfterCommit makes fn run once the transaction is committed. fn must not use the transaction.
func (tx *Tx) AfterCommit(fn func()) { tx.committed = append(tx.committed, fn) }

// Options say which database to open, and how.
type Options struct {
	URL string // "sqlite:PATH", or "postgres://..." in the syntax of libpq
	// Accept is called with the database's identity. If it returns an error, nothing is changed, no
	// database is created, and the error is that of [OpenWith]. nil accepts every database.
	Accept func(Identity) error
	Log    *slog.Logger // nil discards

	// The following are for PostgreSQL; 0 is the default.

	Readers int // connections for [DB.View]
	Writers int // connections for [DB.Update]
	// Timeout is how long a statement may take, except those of [DB.Long].
	Timeout time.Duration
	Wait    time.Duration // how long to try to connect; 0 is once
	// Ownership says which other processes may use the database. If they do, the error is [ErrInUse],
	// and nothing is changed.
	Ownership Ownership
}

// Open opens and migrates the database at url. The caller must call [DB.Close].
func Open(ctx context.Context, url string) (*DB, error) { return OpenWith(ctx, Options{URL: url}) }

// OpenWith opens and migrates a database. The caller must call [DB.Close].
func OpenWith(ctx context.Context, o Options) (*DB, error) {
	if o.Accept == nil {
		o.Accept = func(Identity) error { return nil }
	}
	d, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	isNew, err := d.isNew()
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if isNew {
		if err := o.Accept(Identity{}); err != nil {
			return nil, err
		}
	}
	db := &DB{dialect: d, together: o.Ownership == Together}
	if err := db.openWithReserve(ctx, o); err != nil {
		db.Close()
		return nil, fmt.Errorf("open database: %w", err)
	}
	err = wrap(db.claim(ctx, o.Ownership), "open database")
	if err == nil {
		err = db.prepare(ctx, o.Accept)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	_ = db.reserve.keep() // whoever stores content tries again
	return db, nil
}

// prepare migrates the database, if accept returns nil for it.
func (db *DB) prepare(ctx context.Context, accept func(Identity) error) error {
	id, err := db.identity(ctx)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := accept(id); err != nil {
		return err
	}
	if err := db.migrate(ctx); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if db.uptime, err = Read(ctx, db, (*Tx).Uptime); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return nil
}

// Close waits for running transactions and closes the database.
func (db *DB) Close() error {
	var errs []error
	if db.owner != nil {
		errs = append(errs, db.owner.close())
	}
	if db.outage != nil {
		db.outage.close()
	}
	for _, pool := range []*sql.DB{db.write, db.read} {
		if pool != nil {
			errs = append(errs, pool.Close())
		}
	}
	if db.long != nil {
		errs = append(errs, db.long.read.Close())
	}
	return errors.Join(errs...)
}

// ReleaseLog returns the space of SQLite's log of writes to the disk, as far as no reader needs
// it. The log takes up to a few MiB, which is much on a small disk. PostgreSQL needs no such
// call.
func (db *DB) ReleaseLog(ctx context.Context) error {
	if db.dialect.postgres {
		return nil
	}
	var busy, frames, written int
	err := db.write.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &written)
	return wrap(err, "release the log of writes")
}

// exec runs a statement, and returns the number of rows that it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	res, err := tx.statements.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, tx.note(err)
	}
	return res.RowsAffected()
}

// one runs a statement that must change a row; if it changes none, the error is [ErrNotFound].
// action names it in the error.
func (tx *Tx) one(action, query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return wrap(err, action)
}

// do runs a statement that may change any number of rows.
func (tx *Tx) do(action, query string, args ...any) error {
	_, err := tx.exec(query, args...)
	return wrap(err, action)
}

// wrap says what failed, if err is not nil.
func wrap(err error, action string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", action, err)
}

// A record is a row as a struct.
type record interface {
	// fields returns the destinations of the row's columns, in the order of the query.
	fields() []any
}

// scan reads a row into a [record], or a row of one column.
func scan[T any](row interface{ Scan(dest ...any) error }) (v T, err error) {
	if r, ok := any(&v).(record); ok {
		err = row.Scan(r.fields()...)
	} else {
		err = row.Scan(&v)
	}
	return v, err
}

// get returns the row that query finds, or [ErrNotFound].
func get[T any](tx *Tx, action, query string, args ...any) (T, error) {
	v, err := scan[T](tx.statements.QueryRowContext(tx.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return v, wrap(tx.note(err), action)
}

// NoLimit is the limit of a query for all rows.
const NoLimit = math.MaxInt

// list returns the rows that query finds.
func list[T any](tx *Tx, action, query string, args ...any) ([]T, error) {
	rows, err := tx.statements.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, wrap(tx.note(err), action)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan[T](rows)
		if err != nil {
			return nil, wrap(tx.note(err), action)
		}
		all = append(all, v)
	}
	return all, wrap(tx.note(rows.Err()), action)
}

// maxValues is how many values a statement gets at most, well below the limits of both databases.
const maxValues = 500

// listIn runs query for all digests, some at a time, and returns the digests that it finds. $1
// of the query is repository, and "digest IN (%s)" in it selects the digests.
func (tx *Tx) listIn(action, query, repository string, digests []string) (found []string, err error) {
	for some := range slices.Chunk(digests, maxValues) {
		args, places := []any{repository}, make([]string, len(some))
		for i, d := range some {
			args, places[i] = append(args, d), fmt.Sprintf("$%d", i+2)
		}
		more, err := list[string](tx, action, fmt.Sprintf(query, strings.Join(places, ", ")), args...)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// absent returns those of digests that [Tx.listIn] does not find.
func (tx *Tx) absent(action, query, repository string, digests []string) ([]string, error) {
	found, err := tx.listIn(action, query, repository, digests)
	present := map[string]bool{}
	for _, d := range found {
		present[d] = true
	}
	return slices.DeleteFunc(slices.Clone(digests), func(d string) bool { return present[d] }), err
}

// Next increments the named counter and returns it, beginning at 1.
func (tx *Tx) Next(counter string) (int64, error) {
	return get[int64](tx, "count "+counter, `INSERT INTO counters (name, value) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value`, counter)
}
