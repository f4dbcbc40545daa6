package metadb

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// ErrLockLost is returned, wrapped, for a lock whose session with the database has ended: another
// process may have the lock.
var ErrLockLost = unavailable(errors.New("the lock is lost, because the session with the database has ended"))

const (
	sessionCheck   = 5 * time.Second  // how often a session is checked, and a process tries to lead
	sessionTimeout = 10 * time.Second // for one statement; the session counts as ended after it
	reconnectPause = time.Second      // after a connection that could not be made
	lockPollLeast  = 2 * time.Millisecond
	lockPollMost   = 250 * time.Millisecond
)

// sessionSettings end a session on the server's side half a minute after its process or its machine
// has stopped. The process itself counts the session as ended before that. Old servers lack some.
const sessionSettings = `SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
	('idle_session_timeout', '30s'), ('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'),
	('tcp_keepalives_count', '3'), ('tcp_user_timeout', '25000')) AS wanted (setting_name, value)
	ON name = setting_name`

// endSession ends the session that has locked $1, if it lives.
const endSession = `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
	AND objsubid = 1 AND (classid::bigint << 32 | objid::bigint) = $1 AND mode = 'ExclusiveLock'`

// A Session has the locks of one process that the other processes with the same database respect.
// They are advisory locks of one connection of its own, so that they end with the process. The
// connection must lead to PostgreSQL itself, or to a pooler that keeps sessions. On SQLite, which
// one process uses, they are locks in memory.
//
// A Session is safe for concurrent use. Two goroutines never have the same lock, unless it is shared.
type Session struct {
	dsn   string        // "" keeps the locks in memory
	check time.Duration // see [sessionCheck]
	turn  chan struct{} // has a value while a goroutine uses the connection

	mu     sync.Mutex
	now    *connection // nil before the first lock and after the connection ended
	last   int64       // the id of the last connection; 0 is none
	failed time.Time   // when a connection could last not be made
	err    error       // why
	locks  map[string]*sessionLock
}

// A connection is a session of the database, with its locks.
type connection struct {
	pg    *pgx.Conn
	id    int64         // is locked while the session lives; see [Lock.Confirm]
	scope string        // of the keys: the tables' schema
	ended chan struct{} // is closed when the session has ended, or may have
}

// A sessionLock is a key that goroutines of this process have locked.
type sessionLock struct {
	users int
	mode  lockMode
	free  chan struct{} // is closed when the key is unlocked
}

// A Lock is one that a [Session] has. Its user must call [Lock.Release].
type Lock struct {
	session *Session
	in      *connection // nil is a lock in memory
	key     string
	local   *sessionLock
	release sync.Once
}

// NewSession returns a session with the database, which connects with the first lock. The caller
// must call [Session.Close].
func (db *DB) NewSession() *Session {
	s := &Session{check: sessionCheck, turn: make(chan struct{}, 1), locks: map[string]*sessionLock{}}
	if db.dialect.postgres {
		s.dsn = db.dialect.dsn
	}
	return s
}

// Close releases the locks and ends the session.
func (s *Session) Close() error {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	s.mu.Lock()
	c := s.now
	s.mu.Unlock()
	if c == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_, _ = c.pg.Exec(ctx, `SELECT pg_advisory_unlock_all()`) // the server notices the end of a connection later
	s.end(c)
	return nil
}

// TryLock locks key, if nobody has it. Otherwise the lock is nil.
func (s *Session) TryLock(ctx context.Context, key string) (*Lock, error) {
	l, _, err := s.try(ctx, key, exclusive)
	return l, err
}

// Lock waits for key and locks it.
func (s *Session) Lock(ctx context.Context, key string) (*Lock, error) {
	return s.wait(ctx, key, exclusive)
}

// TryShare locks key together with others that share it, if nobody has it alone. Otherwise the lock
// is nil.
func (s *Session) TryShare(ctx context.Context, key string) (*Lock, error) {
	l, _, err := s.try(ctx, key, shared)
	return l, err
}

// Share waits until nobody has key alone, and locks it together with others that share it.
func (s *Session) Share(ctx context.Context, key string) (*Lock, error) {
	return s.wait(ctx, key, shared)
}

// Lost is closed when the lock may be another's: the session has ended, or the database does not
// answer.
func (l *Lock) Lost() <-chan struct{} {
	if l.in == nil {
		return nil
	}
	return l.in.ended
}

// Confirm returns [ErrLockLost] if the lock is lost. As long as tx runs, nobody else who has the lock
// afterwards can have written before it, because transactions that write run one at a time.
func (l *Lock) Confirm(tx *Tx) error {
	if l.in == nil {
		return nil
	}
	over, err := get[bool](tx, "confirm lock "+l.key, `SELECT pg_try_advisory_xact_lock_shared($1)`, l.in.id)
	if err == nil && over {
		err = fmt.Errorf("confirm lock %s: %w", l.key, ErrLockLost)
	}
	return err
}

// Release unlocks the lock. It may be called more than once.
func (l *Lock) Release() {
	l.release.Do(func() {
		if l.in != nil {
			l.session.unlock(l)
		}
		l.session.leave(l.key, l.local)
	})
}

// A lockMode is the end of the names of PostgreSQL's functions for a kind of lock.
type lockMode string

const (
	exclusive lockMode = ""
	shared    lockMode = "_shared"
)

// wait tries to lock key until it has it.
func (s *Session) wait(ctx context.Context, key string, mode lockMode) (*Lock, error) {
	for pause := lockPollLeast; ; pause = min(2*pause, lockPollMost) {
		l, free, err := s.try(ctx, key, mode)
		if l != nil || err != nil {
			return l, err
		}
		if free != nil { // a goroutine of this process has it
			select {
			case <-free:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			pause = lockPollLeast
			continue
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// try locks key, if it is free. If a goroutine of this process has it, free is closed when it is
// unlocked.
func (s *Session) try(
	ctx context.Context, key string, mode lockMode,
) (_ *Lock, free <-chan struct{}, err error) {
	local, free := s.enter(key, mode)
	if free != nil {
		return nil, free, nil
	}
	l := &Lock{session: s, key: key, local: local}
	if s.dsn == "" {
		return l, nil, nil
	}
	var got bool
	l.in, err = s.do(ctx, func(ctx context.Context, c *connection) error {
		return c.pg.QueryRow(ctx, "SELECT pg_try_advisory_lock"+string(mode)+"($1)", c.number(key)).Scan(&got)
	})
	if err != nil || !got {
		s.leave(key, local)
		err = wrap(err, "lock "+key)
		if troubleOf(err) != noTrouble {
			err = unavailable(err)
		}
		return nil, nil, err
	}
	return l, nil, nil
}

// enter takes key among the goroutines of this process, or returns a channel that is closed when the
// key is free.
func (s *Session) enter(key string, mode lockMode) (*sessionLock, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[key]
	switch {
	case l == nil:
		l = &sessionLock{mode: mode, free: make(chan struct{})}
		s.locks[key] = l
	case l.mode != shared || mode != shared:
		return nil, l.free
	}
	l.users++
	return l, nil
}

func (s *Session) leave(key string, l *sessionLock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.users--; l.users == 0 {
		delete(s.locks, key)
		close(l.free)
	}
}

// unlock releases a lock in the database, unless its session has ended.
func (s *Session) unlock(l *Lock) {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	select {
	case <-l.in.ended:
		return
	default:
	}
	ctx, stop := context.WithTimeout(context.Background(), sessionTimeout)
	defer stop()
	query := "SELECT pg_advisory_unlock" + string(l.local.mode) + "($1)"
	if _, err := l.in.pg.Exec(ctx, query, l.in.number(l.key)); err != nil {
		s.end(l.in) // which releases it, too
	}
}

// do runs fn with the connection, after it has connected if there is none. If the database does not
// answer, the session has ended.
func (s *Session) do(ctx context.Context, fn func(context.Context, *connection) error) (*connection, error) {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	// The end of the caller's context must not end the session.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), sessionTimeout)
	defer stop()
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := fn(ctx, c); err != nil {
		s.end(c)
		return nil, err
	}
	return c, nil
}

// connect returns the connection, or makes one. The caller has the turn.
func (s *Session) connect(ctx context.Context) (*connection, error) {
	s.mu.Lock()
	c, last, recent, err := s.now, s.last, time.Since(s.failed) < reconnectPause, s.err
	s.mu.Unlock()
	if c != nil {
		return c, nil
	}
	if recent {
		return nil, err
	}
	c, err = begin(ctx, s.dsn, last)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now = c; err != nil {
		s.failed, s.err = time.Now(), fmt.Errorf("connect for locks: %w", err)
		return nil, s.err
	}
	s.last = c.id
	go s.watch(c)
	return c, nil
}

// begin connects and begins a session. The server may not have noticed the end of the last one.
func begin(ctx context.Context, dsn string, last int64) (*connection, error) {
	pg, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return nil, err
	}
	var random [8]byte
	rand.Read(random[:])
	c := &connection{pg: pg, id: int64(binary.BigEndian.Uint64(random[:])), ended: make(chan struct{})}
	_, err = pg.Exec(ctx, sessionSettings)
	if err == nil {
		_, err = pg.Exec(ctx, endSession, last)
	}
	if err == nil {
		const lockID = `SELECT COALESCE(current_schema(), '') FROM (SELECT pg_advisory_lock($1)) AS locked`
		err = pg.QueryRow(ctx, lockID, c.id).Scan(&c.scope)
	}
	if err != nil {
		pg.Close(ctx)
		return nil, err
	}
	return c, nil
}

// watch checks the session until it has ended.
func (s *Session) watch(c *connection) {
	tick := time.NewTicker(s.check)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		s.turn <- struct{}{}
		ctx, stop := context.WithTimeout(context.Background(), sessionTimeout)
		select {
		case <-c.ended:
		default:
			if c.pg.Ping(ctx) != nil {
				s.end(c)
			}
		}
		stop()
		<-s.turn
	}
}

// end closes the connection, and says to the users of its locks that these are lost. The caller has
// the turn.
func (s *Session) end(c *connection) {
	s.mu.Lock()
	if s.now == c {
		s.now = nil
		close(c.ended)
	}
	s.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	c.pg.Close(ctx)
}

// number returns the key of a lock as PostgreSQL has it. Roots in other schemas have other numbers.
func (c *connection) number(key string) int64 {
	sum := sha256.Sum256([]byte(c.scope + "\x00" + key))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// Lead runs fn while this process is the leader for name: of the processes with the same database,
// one at a time. If it loses that, the context of fn ends with [ErrLockLost] as its cause. Even before,
// updates with this context, or with one that is derived from it, fail with that error. Once fn has
// returned, Lead tries to become the leader again. Otherwise Lead returns when fn returns, or when ctx
// ends.
//
// While the database does not answer, no process leads.
func (s *Session) Lead(ctx context.Context, name string, fn func(context.Context) error) error {
	for ctx.Err() == nil {
		if l, err := s.TryLock(ctx, "leader "+name); err == nil && l != nil {
			if err := l.run(ctx, fn); !errors.Is(err, ErrLockLost) {
				return err
			}
			continue
		}
		select {
		case <-time.After(s.check):
		case <-ctx.Done():
		}
	}
	return context.Cause(ctx)
}

// run runs fn until the lock is lost, and releases it.
func (l *Lock) run(ctx context.Context, fn func(context.Context) error) error {
	defer l.Release()
	ctx, stop := context.WithCancelCause(context.WithValue(ctx, leaderKey{}, l))
	defer stop(nil)
	done := make(chan struct{})
	defer close(done)
	go func() {
		select {
		case <-l.Lost():
			stop(ErrLockLost)
		case <-done:
		}
	}()
	err := fn(ctx)
	if errors.Is(context.Cause(ctx), ErrLockLost) {
		return ErrLockLost
	}
	return err
}

// leaderKey is the key of the lock of a leader in the context of its work.
type leaderKey struct{}

// confirmLeader returns [ErrLockLost] if the transaction is part of the work of a leader that has lost its
// lock.
func (tx *Tx) confirmLeader() error {
	if l, ok := tx.ctx.Value(leaderKey{}).(*Lock); ok {
		return l.Confirm(tx)
	}
	return nil
}
