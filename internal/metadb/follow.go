package metadb

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	followTimeout  = 3 * time.Second // for the question whether anything changed
	followPause    = time.Second     // before the connection for announcements is made again
	followInterval = 5 * time.Second // the longest time between two questions
)

// A Follower keeps what this process has in memory current with the changes of other processes. All
// of them must record their changes; see [DB.Share]. It is safe for concurrent use.
type Follower struct {
	db     *DB
	asking *sql.DB // one connection, for the question whether anything changed
	log    *slog.Logger
	apply  []func(tx *Tx, c Changes) error

	last atomic.Int64 // the transaction up to which all is applied

	mu      sync.Mutex
	running bool   // a check runs; no other does
	next    *check // that begins when the running one has ended; nil is none

	failed bool // the last check failed; for the running one
}

// A check is one question that several callers wait for.
type check struct {
	done chan struct{}
	err  error
}

// Follow returns a follower that has applied all changes until now. The caller must call
// [Follower.Close].
func (db *DB) Follow(ctx context.Context, log *slog.Logger) (*Follower, error) {
	f := &Follower{db: db, log: log, asking: db.read}
	if db.dialect.postgres {
		config, err := pgx.ParseConfig(db.dialect.dsn)
		if err != nil {
			return nil, err
		}
		f.asking = db.pool(sessionOf(config, followTimeout), 1)
	}
	return f, db.View(ctx, func(tx *Tx) error {
		last, err := tx.LastChange()
		if f.last.Store(last); err != nil {
			return err
		}
		return tx.checkNewer() // it may have been migrated since it was opened
	})
}

// Apply makes the follower call apply with the changes of other processes, and a view of the database
// that includes them. It must be called before the follower is used. If apply returns an error, it is
// called again with the same changes.
func (f *Follower) Apply(apply func(tx *Tx, c Changes) error) { f.apply = append(f.apply, apply) }

// Close ends the follower's connection. It must not be used afterwards.
func (f *Follower) Close() error {
	if f.asking == f.db.read {
		return nil
	}
	return f.asking.Close()
}

// CatchUp returns once all changes are applied that were committed before the call. Concurrent calls
// share their questions to the database. An error means that changes may not be applied. It waits for a
// short outage to end; in a longer one, the error comes at once. It is [ErrUnavailable] only if the
// database does not answer.
func (f *Follower) CatchUp(ctx context.Context) error {
	f.mu.Lock()
	if f.running {
		if f.next == nil {
			f.next = &check{done: make(chan struct{})}
		}
		c := f.next
		f.mu.Unlock()
		select {
		case <-c.done:
			return c.err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	f.running = true
	f.mu.Unlock()
	err := f.check()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running = f.next != nil; f.running {
		go f.checkNext()
	}
	return err
}

// checkNext checks until nobody waits.
func (f *Follower) checkNext() {
	for {
		runtime.Gosched() // lets other requests join the next question
		f.mu.Lock()
		c := f.next
		f.next = nil
		f.mu.Unlock()
		c.err = f.check()
		close(c.done)
		f.mu.Lock()
		if f.running = f.next != nil; !f.running {
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
	}
}

// check asks whether anything changed, and applies it.
func (f *Follower) check() error {
	ctx, stop := context.WithTimeout(context.Background(), followTimeout)
	defer stop()
	last, err := f.ask(ctx)
	if err == nil && last != f.last.Load() {
		err = f.applyChanges(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = unavailable(err)
	}
	switch err = wrap(err, "read changes of other processes"); {
	case err != nil && !f.failed:
		f.log.Warn("changes of other processes are not known", "err", err)
	case err == nil && f.failed:
		f.log.Info("changes of other processes are known again")
	}
	f.failed = err != nil
	return err
}

// ask returns the number of the last transaction that was recorded.
func (f *Follower) ask(ctx context.Context) (last int64, err error) {
	const question = `SELECT COALESCE(MAX(id), 0) FROM changes`
	once := func() error {
		err := f.asking.QueryRowContext(ctx, question).Scan(&last)
		if isCrowded(err) { // other connections may be open
			err = f.db.read.QueryRowContext(ctx, question).Scan(&last)
		}
		return err
	}
	if !f.db.dialect.postgres {
		return last, once()
	}
	err = f.db.persist(ctx, func() error {
		err := once()
		if kind := troubleOf(err); kind != noTrouble {
			return troubled{err, kind}
		}
		return err
	})
	return last, err
}

// applyChanges applies all changes until now.
func (f *Follower) applyChanges(ctx context.Context) error {
	return f.db.View(ctx, func(tx *Tx) error {
		c, err := tx.ChangesAfter(f.last.Load(), f.db.process)
		if err != nil {
			return err
		}
		if c.Has(schemaTopic) {
			if err := tx.checkNewer(); err != nil {
				return err
			}
		}
		for _, apply := range f.apply {
			if err := apply(tx, c); err != nil {
				return err
			}
		}
		f.last.Store(c.Last)
		return nil
	})
}

// Run applies changes of other processes soon after they were committed, until ctx ends. The error is
// [ErrNewer] if a newer program has migrated the database, and this one may not go on: it applies no changes.
func (f *Follower) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := f.listen(ctx)
		if ctx.Err() == nil && err != nil {
			f.log.Debug("changes of other processes are not announced", "err", err)
		}
		if err := f.CatchUp(ctx); errors.Is(err, ErrNewer) {
			return err
		}
		select {
		case <-time.After(followPause):
		case <-ctx.Done():
		}
	}
	return nil
}

// listen applies changes when another process announces them and, because an announcement can be
// lost, every few seconds.
func (f *Follower) listen(ctx context.Context) error {
	if !f.db.dialect.postgres {
		<-ctx.Done()
		return nil
	}
	conn, err := connectIn(ctx, f.db.dialect.dsn)
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		conn.Close(ctx)
	}()
	for {
		if err := f.CatchUp(ctx); err != nil {
			return err
		}
		if err := f.wait(ctx, conn); err != nil {
			return err
		}
	}
}

// connectIn connects, and listens to the announcements of changes.
func connectIn(ctx context.Context, dsn string) (*pgx.Conn, error) {
	ctx, stop := context.WithTimeout(ctx, sessionTimeout)
	defer stop()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.DialFunc = dial(followInterval + followTimeout) // which soon finds that the other end has gone
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := conn.Exec(ctx, `LISTEN `+changesChannel); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

// wait waits until another process announces a change, or for [followInterval].
func (f *Follower) wait(ctx context.Context, conn *pgx.Conn) error {
	wait, stop := context.WithTimeout(ctx, followInterval)
	defer stop()
	for {
		n, err := conn.WaitForNotification(wait)
		switch {
		case err != nil && wait.Err() != nil && ctx.Err() == nil:
			return nil
		case err != nil:
			return err
		case n.Payload != f.db.process:
			return nil
		}
	}
}
