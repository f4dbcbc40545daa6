// Package metadb keeps everything but blobs in SQL: one text for SQLite, the
// embedded default, and for PostgreSQL.
//
// Work is done inside [DB.View] and [DB.Update]; the methods of [Tx], a file
// per noun, are the only SQL there is. Updates happen one at a time on both
// databases, so a method may read, decide and write without more locking.
package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// ErrNotFound is what a [Tx] method returns, wrapped, when its row is not there.
var ErrNotFound = errors.New("not found")

// ErrNewer is what [Open] returns, wrapped, when the database was written by
// a newer version of the program. Nothing was changed.
var ErrNewer = errors.New("the database is of a newer version of ferry")

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	dialect dialect
	read    *sql.DB
	write   *sql.DB // the same pool as read, except on SQLite, where it has one connection
	batch   batcher
	reserve reserve
	uptime  Uptime // that was saved when it was opened
}

// A Tx is one transaction, read-only inside [DB.View]. It must not be used
// after the function that it was given to has returned.
type Tx struct {
	ctx context.Context
	tx  *sql.Tx

	controlRows []ControlRow // that it wrote
}

// Open opens, and brings up to date, the database at url: "sqlite:PATH", or
// "postgres://..." as libpq writes it. The caller must call [DB.Close].
func Open(ctx context.Context, url string) (*DB, error) {
	return OpenIf(ctx, url, func(Identity) error { return nil })
}

// OpenIf is [Open] for a database that accept returns nil for. Else nothing was changed,
// and no database was made where there was none; the error is that of accept.
func OpenIf(ctx context.Context, url string, accept func(Identity) error) (*DB, error) {
	d, err := parse(url)
	if err != nil {
		return nil, err
	}
	isNew, err := d.isNew()
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if isNew {
		if err := accept(Identity{}); err != nil {
			return nil, err
		}
	}
	db := &DB{dialect: d}
	if err := db.openWithReserve(ctx); err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := db.prepare(ctx, accept); err != nil {
		db.Close()
		return nil, err
	}
	_ = db.reserve.keep() // who stores content asks again
	return db, nil
}

// prepare brings the database up to date, if accept returns nil for it.
func (db *DB) prepare(ctx context.Context, accept func(Identity) error) error {
	m, err := db.migrations()
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	id, err := db.identity(ctx, m)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if err := accept(id); err != nil {
		return err
	}
	if err := db.migrate(ctx, m); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	if db.uptime, err = Read(ctx, db, (*Tx).Uptime); err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	return nil
}

// Close waits for running transactions and closes the database.
func (db *DB) Close() error {
	if db.write == db.read {
		return db.read.Close()
	}
	return errors.Join(db.write.Close(), db.read.Close())
}

// ReleaseLog gives the room of SQLite's log of writes back to the disk, as far as no
// reader needs it. The log takes up to a few MiB, which are much on a small disk.
// PostgreSQL does so by itself.
func (db *DB) ReleaseLog(ctx context.Context) error {
	if db.dialect.postgres {
		return nil
	}
	var busy, frames, written int
	err := db.write.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &written)
	return wrap(err, "release the log of writes")
}

// View runs fn in a transaction that sees one state of the database and
// cannot write.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	return run(ctx, db.read, &sql.TxOptions{ReadOnly: true, Isolation: db.dialect.viewIsolation()}, "", fn)
}

// Read is [DB.View] for one question: it returns what fn returns.
func Read[T any](ctx context.Context, db *DB, fn func(*Tx) (T, error)) (v T, err error) {
	err = db.View(ctx, func(tx *Tx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v, err
}

// Update runs fn in a transaction that no other Update overlaps, and commits
// it durably when fn returns nil. When fn returns an error nothing is changed
// and Update returns that error.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	return run(ctx, db.write, nil, db.dialect.lockWriters(), fn)
}

func run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, first string, fn func(*Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // after a commit this does nothing
	if first != "" {
		if _, err := tx.ExecContext(ctx, first); err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
	}
	if err := fn(&Tx{ctx: ctx, tx: tx}); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	return nil
}

// exec runs a statement and returns how many rows it changed.
func (tx *Tx) exec(query string, args ...any) (int64, error) {
	res, err := tx.tx.ExecContext(tx.ctx, query, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// one runs a statement that must change a row; none is [ErrNotFound]. what
// is what the error says was tried.
func (tx *Tx) one(what, query string, args ...any) error {
	n, err := tx.exec(query, args...)
	if err == nil && n == 0 {
		err = ErrNotFound
	}
	return wrap(err, what)
}

// do runs a statement that may change any number of rows.
func (tx *Tx) do(what, query string, args ...any) error {
	_, err := tx.exec(query, args...)
	return wrap(err, what)
}

// wrap says what was tried when err is not nil.
func wrap(err error, what string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// A record is a row as a struct.
type record interface {
	// fields returns where the row's columns go, in the order of the query.
	fields() []any
}

// scan reads a row, which is a [record] or has one column.
func scan[T any](row interface{ Scan(dest ...any) error }) (v T, err error) {
	if r, ok := any(&v).(record); ok {
		err = row.Scan(r.fields()...)
	} else {
		err = row.Scan(&v)
	}
	return v, err
}

// get returns the row that query finds, or [ErrNotFound].
func get[T any](tx *Tx, what, query string, args ...any) (T, error) {
	v, err := scan[T](tx.tx.QueryRowContext(tx.ctx, query, args...))
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return v, wrap(err, what)
}

// NoLimit as a limit asks for every row.
const NoLimit = math.MaxInt

// list returns the rows that query finds.
func list[T any](tx *Tx, what, query string, args ...any) ([]T, error) {
	rows, err := tx.tx.QueryContext(tx.ctx, query, args...)
	if err != nil {
		return nil, wrap(err, what)
	}
	defer rows.Close()
	var all []T
	for rows.Next() {
		v, err := scan[T](rows)
		if err != nil {
			return nil, wrap(err, what)
		}
		all = append(all, v)
	}
	return all, wrap(rows.Err(), what)
}

// batch is how many values one statement is given, well below what either
// database takes.
const batch = 500

// listIn returns the digests that query, whose $1 is repository, finds where
// "digest IN (%s)" restricts it to some of digests.
func (tx *Tx) listIn(what, query, repository string, digests []string) (found []string, err error) {
	for some := range slices.Chunk(digests, batch) {
		args, places := []any{repository}, make([]string, len(some))
		for i, d := range some {
			args, places[i] = append(args, d), fmt.Sprintf("$%d", i+2)
		}
		more, err := list[string](tx, what, fmt.Sprintf(query, strings.Join(places, ", ")), args...)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

// absent returns those of digests that [Tx.listIn] does not find.
func (tx *Tx) absent(what, query, repository string, digests []string) ([]string, error) {
	found, err := tx.listIn(what, query, repository, digests)
	present := map[string]bool{}
	for _, d := range found {
		present[d] = true
	}
	return slices.DeleteFunc(slices.Clone(digests), func(d string) bool { return present[d] }), err
}

// Next counts the named counter up by one and returns it, beginning at 1.
func (tx *Tx) Next(counter string) (int64, error) {
	return get[int64](tx, "count "+counter, `INSERT INTO counters (name, value) VALUES ($1, 1)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value`, counter)
}
