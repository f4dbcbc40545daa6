package metadb

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrInUse is returned, wrapped, by [OpenWith] if another process uses the database that may not
// share it.
var ErrInUse = errors.New("another process uses the database")

// An Ownership says which processes may use a PostgreSQL database at the same time.
type Ownership int

const (
	// Unowned: the process does not care. It is for tests.
	Unowned Ownership = iota
	// Alone: no other process, because what belongs to the rows is on this machine.
	Alone
	// Together: every process that says Together, too.
	Together
)

// ownerKey is the key of the lock that a process has while it uses the database.
const ownerKey = "database"

// ownerPause is how often a process tries to get its lost lock again.
const ownerPause = 250 * time.Millisecond

// An owner keeps the lock of the database. While it is lost, nothing is written: another process may
// have it.
type owner struct {
	session *Session
	lock    func(context.Context) (*Lock, error)
	outage  *outage

	stop context.CancelFunc
	done sync.WaitGroup

	mu   sync.Mutex
	held *Lock // nil while it is lost
}

// claim takes the lock of the database, and keeps it until [owner.close].
func (db *DB) claim(ctx context.Context, o Ownership) error {
	if o == Unowned || !db.dialect.postgres {
		return nil
	}
	w := &owner{session: db.NewSession(), outage: db.outage}
	w.lock = func(ctx context.Context) (*Lock, error) {
		if o == Together {
			return w.session.TryShare(ctx, ownerKey)
		}
		return w.session.TryLock(ctx, ownerKey)
	}
	l, err := w.lock(ctx)
	if err == nil && l == nil {
		err = ErrInUse
	}
	if err != nil {
		return errors.Join(err, w.session.Close())
	}
	w.held = l
	ctx, w.stop = context.WithCancel(context.WithoutCancel(ctx))
	w.done.Go(func() { w.run(ctx) })
	db.owner, db.long.owner = w, w
	return nil
}

// close gives the lock up.
func (w *owner) close() error {
	w.stop()
	w.done.Wait()
	return w.session.Close()
}

// run gets the lock again whenever it is lost, until ctx ends.
func (w *owner) run(ctx context.Context) {
	for {
		l := w.current()
		select {
		case <-l.Lost():
		case <-ctx.Done():
			return
		}
		w.set(nil)
		l.Release()
		if !w.regain(ctx) {
			return
		}
		for _, fn := range w.outage.late { // another process may have written
			fn()
		}
	}
}

// regain tries to get the lock until it has it. It returns false when ctx ends.
func (w *owner) regain(ctx context.Context) bool {
	said := false
	for {
		l, err := w.lock(ctx)
		if l != nil {
			w.set(l)
			return true
		}
		if err == nil && !said {
			said = true
			w.outage.log.Error("another process uses the database, so nothing is written here", "hint",
				"stop it, or give it a database of its own")
		}
		select {
		case <-time.After(ownerPause):
		case <-ctx.Done():
			return false
		}
	}
}

func (w *owner) current() *Lock {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.held
}

func (w *owner) set(l *Lock) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held = l
}

// errNotOwner is the trouble of an update while the lock is lost.
var errNotOwner = fmt.Errorf("use the database: %w", ErrLockLost)

// id returns the number whose lock shows that the session lives.
func (w *owner) id() (id int64, ok bool) {
	if w == nil {
		return 0, true
	}
	l := w.current()
	if l == nil {
		return 0, false
	}
	return l.in.id, true
}

// lost ends the session with an id, which PostgreSQL has ended already.
func (w *owner) lost(id int64) {
	l := w.current()
	if l == nil || l.in.id != id {
		return
	}
	w.session.turn <- struct{}{}
	w.session.end(l.in)
	<-w.session.turn
}
