package metadb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// View runs fn in a transaction that sees one state of the database and cannot write. On PostgreSQL,
// it runs fn again if the connection was lost.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	opts := &sql.TxOptions{ReadOnly: true, Isolation: db.dialect.viewIsolation()}
	if db.dialect.postgres {
		return db.persist(ctx, func() error { return db.view(ctx, opts, fn) })
	}
	return run(ctx, db.read, opts, fn)
}

// Read is [DB.View] for one question. It returns the results of fn.
func Read[T any](ctx context.Context, db *DB, fn func(*Tx) (T, error)) (v T, err error) {
	err = db.View(ctx, func(tx *Tx) (err error) {
		v, err = fn(tx)
		return err
	})
	return v, err
}

// Lookup is [Read] without a transaction: each statement of fn may see another state of the database. It
// is for an fn that nearly always makes one statement, and saves two of three round trips to PostgreSQL.
func Lookup[T any](ctx context.Context, db *DB, fn func(*Tx) (T, error)) (v T, err error) {
	if !db.dialect.postgres {
		return fn(&Tx{ctx: ctx, statements: db.read})
	}
	err = db.persist(ctx, func() error {
		conn, err := db.conn(ctx, db.read)
		if err != nil {
			return err
		}
		defer conn.Close()
		t := &Tx{ctx: ctx, statements: conn}
		if v, err = fn(t); err != nil {
			return t.failure(err)
		}
		return nil
	})
	return v, err
}

// Update runs fn in a transaction that overlaps with no other Update, and commits it durably if
// fn returns nil. If fn returns an error, nothing is changed, and Update returns that error. On
// PostgreSQL, it runs fn again if the transaction was lost and certainly had no effect. The error is
// [ErrLockLost] for the work of a process that leads no more; see [Session.Lead].
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	fn = db.recorded(fn)
	if !db.dialect.postgres {
		return run(ctx, db.write, nil, fn)
	}
	if err := db.outage.wait(ctx); err != nil {
		return err
	}
	leave, err := db.writers.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	return db.persist(ctx, func() error { return db.update(ctx, fn) })
}

// run runs fn in a transaction on SQLite.
func run(ctx context.Context, pool *sql.DB, opts *sql.TxOptions, fn func(*Tx) error) error {
	tx, err := pool.BeginTx(ctx, opts)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer tx.Rollback() // does nothing after a commit
	t := &Tx{ctx: ctx, statements: tx}
	if err := fn(t); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit transaction: %w", err)
	}
	t.runCommitted()
	return nil
}

func (tx *Tx) runCommitted() {
	for _, fn := range tx.committed {
		fn()
	}
}

// A queue of the updates of this process. The database runs one update at a time, so those that
// wait need no connection: one works, and perhaps others have begun, so that there is no pause
// between two. They are served in the order of their arrival.
type queue struct {
	turns chan struct{}
	limit time.Duration // how long an update may wait
}

func newQueue(writers int, limit time.Duration) *queue {
	return &queue{make(chan struct{}, writers), limit}
}

// enter waits for the turn of an update, which must call leave.
func (q *queue) enter(ctx context.Context) (leave func(), err error) {
	leave = func() { <-q.turns }
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	default:
	}
	timer := time.NewTimer(q.limit)
	defer timer.Stop()
	select {
	case q.turns <- struct{}{}:
		return leave, nil
	case <-timer.C:
		return nil, unavailable(fmt.Errorf("begin transaction: %w", errQueue))
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

var errQueue = errors.New("others have been writing for too long")

// A troubled is an error of an attempt to run a transaction that certainly had no effect.
type troubled struct {
	error
	trouble trouble
}

// Unwrap is for [errors.Is].
func (t troubled) Unwrap() error { return t.error }

// Pauses between two attempts.
const (
	retryFirst, retryLast = 10 * time.Millisecond, 250 * time.Millisecond
	// maxDisturbed is how often a transaction may be disturbed by others.
	maxDisturbed = 10
)

// persist tries a transaction until it succeeds, or fails for a reason of its own, or has met trouble
// for too long.
func (db *DB) persist(ctx context.Context, attempt func() error) error {
	begun, pause, tries := time.Now(), retryFirst, 0
	for {
		if err := db.outage.wait(ctx); err != nil {
			return err
		}
		err := attempt()
		t, ok := errors.AsType[troubled](err)
		if !ok {
			return err
		}
		tries++
		limit := patience
		switch t.trouble {
		case slow:
			return unavailable(err)
		case silent:
			db.outage.suspect()
			limit = 0
		case lost, refused:
			db.outage.connectionLost()
		case disturbed:
			if tries > maxDisturbed {
				return unavailable(err)
			}
		case waiting:
			limit = db.writers.limit
		}
		if time.Since(begun) >= limit && (t.trouble != lost || tries > 1) {
			return unavailable(err)
		}
		if t.trouble == lost && tries == 1 || t.trouble == waiting {
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		pause = min(2*pause, retryLast)
	}
}

// view is one attempt to run fn in a transaction that cannot write.
func (db *DB) view(ctx context.Context, opts *sql.TxOptions, fn func(*Tx) error) error {
	t, end, err := db.begin(ctx, db.read, opts)
	if err != nil {
		return err
	}
	defer end()
	if err := fn(t); err != nil {
		return t.failure(err)
	}
	_ = t.commit() // everything was read
	t.runCommitted()
	return nil
}

// update is one attempt to run fn in a transaction that overlaps with no other.
func (db *DB) update(ctx context.Context, fn func(*Tx) error) error {
	t, end, err := db.begin(ctx, db.write, nil)
	if err != nil {
		return err
	}
	defer end()
	id, err := db.lockWriters(t)
	if err != nil {
		if t.trouble == slow {
			t.trouble = waiting
		}
		return t.failure(fmt.Errorf("begin transaction: %w", err))
	}
	if err := t.confirmLeader(); err != nil {
		return t.failure(err)
	}
	if err := fn(t); err != nil {
		return t.failure(err)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := t.commit(); err != nil {
		err = fmt.Errorf("commit transaction: %w", err)
		kind := troubleOf(err)
		if kind == noTrouble {
			return err
		}
		if !certainlyNotCommitted(err) {
			id := txID{id, t.run}
			switch db.fateOf(context.WithoutCancel(ctx), id) {
			case committed:
				t.runCommitted()
				return nil
			case aborted:
			default:
				db.outage.suspect()
				db.outage.settle(func(ctx context.Context) fate { return db.fateOf(ctx, id) })
				return &unavailableError{cause: err, uncertain: true}
			}
		}
		return troubled{err, kind}
	}
	t.runCommitted()
	return nil
}

// lockWriters waits until no other update runs. It returns the id of the transaction, which tells its fate if
// the connection is lost during the commit.
func (db *DB) lockWriters(t *Tx) (id string, err error) {
	owner, ok := db.owner.id()
	if !ok {
		t.trouble = refused
		return "", errNotOwner
	}
	id, err = get[string](t, "lock writers", `SELECT CASE WHEN $1::bigint <> 0 AND pg_try_advisory_xact_lock_shared($1)
		THEN '' ELSE pg_current_xact_id()::text END FROM pg_advisory_xact_lock(7162353)`, owner)
	if err == nil && id == "" {
		db.owner.lost(owner)
		t.trouble = refused
		err = errNotOwner
	}
	return id, err
}

// begin begins a transaction on a connection of pool. The caller must call end.
//
// The end of ctx interrupts neither the begin nor the commit, but the statements between them.
func (db *DB) begin(ctx context.Context, pool *sql.DB, opts *sql.TxOptions) (t *Tx, end func(), err error) {
	conn, err := db.conn(ctx, pool)
	if err != nil {
		return nil, nil, err
	}
	run := serverRunOf(conn)
	tx, err := conn.BeginTx(context.WithoutCancel(ctx), opts)
	if err != nil {
		conn.Close()
		return nil, nil, beginTrouble(ctx, err)
	}
	return &Tx{ctx: ctx, statements: tx, commit: tx.Commit, run: run}, func() {
		_ = tx.Rollback() // does nothing after a commit
		_ = conn.Close()  // returns it to the pool
	}, nil
}

// conn takes a connection from pool. The caller must close it, which returns it.
func (db *DB) conn(ctx context.Context, pool *sql.DB) (*sql.Conn, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	wait, cancel := context.WithTimeout(ctx, db.timeout)
	defer cancel()
	conn, err := pool.Conn(wait)
	if err != nil {
		return nil, beginTrouble(ctx, err)
	}
	return conn, nil
}

func beginTrouble(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = fmt.Errorf("begin transaction: %w", err)
	if kind := troubleOf(err); kind != noTrouble {
		return troubled{err, kind}
	}
	return err
}

// note remembers that a statement met trouble, and returns its error.
func (tx *Tx) note(err error) error {
	if err != nil && tx.ctx.Err() == nil {
		tx.trouble = max(tx.trouble, troubleOf(err))
	}
	return err
}

// failure returns the error of a transaction: if a statement met trouble, that is the cause.
func (tx *Tx) failure(err error) error {
	if tx.trouble != noTrouble {
		return troubled{err, tx.trouble}
	}
	return err
}

// OnUncertain makes the database call fn after a transaction was committed of which [DB.Update] returned
// that it is uncertain: what its caller has in memory may be out of date. It must be called before any
// update.
func (db *DB) OnUncertain(fn func()) {
	if db.outage != nil {
		db.outage.late = append(db.outage.late, fn)
	}
}
