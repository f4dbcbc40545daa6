// Package control manages rights: scope maps, tokens, operators and mirror rules, with an audit
// log. Begin at [Service].
//
// In a root registry the management API writes these resources. In a connected registry they are
// those of the last desired state from the parent: they can be read with the link down, and only a
// new desired state changes them.
package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// Options configure a Service. DB is required.
type Options struct {
	DB *metadb.DB
	// Self is the connected registry that this instance is, by the name in its connection string;
	// "" is a root.
	Self string
	// Instance is the instance ID for an empty database; "" generates one.
	Instance string
	// Adopt creates missing settings again in a database that is in use. Without it the result is
	// [ErrDamaged].
	Adopt bool
	// Maxima are how many resources there can be; nil is [DefaultMaxima].
	Maxima *Maxima
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// A Service manages the control plane of one instance. It is safe for concurrent use. Every
// transaction that writes a table of [State] must run in [Service.Change].
type Service struct {
	db   *metadb.DB
	self string
	log  *slog.Logger
	now  func() time.Time

	maxima   Maxima
	instance string
	verifier *auth.OperatorVerifier
	failed   *failedLogins
	keyUse   keyUse

	state    atomic.Pointer[State]
	followed atomic.Int64 // a change up to which the state includes the writes of other processes
	writing  sync.Mutex   // held during a write, until its state is published

	mu       sync.Mutex
	waiting  map[string]chan struct{} // by lower-case connected registry; see [Service.Changed]
	changed  map[string]int64         // by lower-case connected registry: the version that last affected it
	reloaded int64                    // the version at which everything was last read again, which affects all
	recent   recentWrites
}

// New returns the service of an instance. At the first start it creates the instance ID, the role
// and, in a root, the scope maps that the system defines. It returns an error if the database
// belongs to another role or to another connected registry, and [ErrDamaged] if the database was in
// use and lacks any of these.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil {
		return nil, errors.New("open control plane: it needs a database")
	}
	s := &Service{
		db: o.DB, self: o.Self, now: o.Now, verifier: auth.NewOperatorVerifier(), failed: newFailedLogins(),
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), waiting: map[string]chan struct{}{},
		changed: map[string]int64{}, keyUse: keyUse{last: map[string]time.Time{}},
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.maxima = DefaultMaxima(); o.Maxima != nil {
		s.maxima = *o.Maxima
	}
	s.db.OnUncertain(s.reloadLate)
	err := s.prepare(ctx, o)
	if err == nil {
		err = s.reload(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open control plane: %w", err)
	}
	return s, nil
}

// InstanceID identifies this instance. It is created at the first start.
func (s *Service) InstanceID() string { return s.instance }

// Directory returns the users of this instance: in a root, every enabled token; in a connected
// registry, its client tokens and the sync tokens of its children; in both, the operators.
func (s *Service) Directory() auth.Directory { return directory{s} }

// Maxima returns how many resources there can be.
func (s *Service) Maxima() Maxima { return s.maxima }

// Self returns the name of the connected registry that this instance is; "" is
// a root.
func (s *Service) Self() string { return s.self }

// IsSelf reports whether name is the connected registry that this instance is.
func (s *Service) IsSelf(name string) bool { return s.self != "" && strings.EqualFold(s.self, name) }

// IsChild reports whether the row is of a child of this instance.
func (s *Service) IsChild(row metadb.ConnectedRegistry) bool {
	return strings.EqualFold(row.Parent, s.self) && !s.IsSelf(row.Name)
}

// State returns the current state of the control plane.
func (s *Service) State() *State { return s.state.Load() }

// Change runs fn in a transaction that may write the control plane, and publishes the new state
// before it returns. In fn, the state is that of the transaction. On a full disk the transaction may
// use the reserve; fn may then run twice.
func (s *Service) Change(ctx context.Context, fn func(*metadb.Tx) error) error {
	return s.change(ctx, fn, func(*metadb.Tx, *State, *State) error { return nil })
}

// change is [Service.Change]. After fn, note runs in the same transaction, with the states before and after
// it. It must not write the control plane.
func (s *Service) change(
	ctx context.Context, fn func(*metadb.Tx) error, note func(tx *metadb.Tx, old, next *State) error,
) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	var old, next *State
	var rows []metadb.ControlRow
	uncertain := false // whether the transaction was committed
	err := s.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		next, uncertain = nil, false
		if s.db.Shared() {
			if err := s.readOthers(tx); err != nil {
				return err
			}
		}
		old = s.state.Load()
		if err := fn(tx); err != nil {
			return err
		}
		uncertain = true
		if rows = tx.ControlRows(); len(rows) > 0 {
			if next, err = s.written(tx, old, rows); err != nil {
				return err
			}
		}
		return note(tx, old, cmp.Or(next, old))
	})
	if err != nil && uncertain {
		return errors.Join(err, s.reload(context.WithoutCancel(ctx)))
	}
	if err != nil || next == nil {
		return err
	}
	if next.version != old.version+1 {
		s.publishAll(next)
	} else {
		s.publish(next, rows, affectedChildren(old, next, rows, s.self))
	}
	return nil
}

// written returns the state after the transaction, which has written rows of the state old.
func (s *Service) written(tx *metadb.Tx, old *State, rows []metadb.ControlRow) (*State, error) {
	version, err := tx.AdvanceControl()
	if err != nil {
		return nil, err
	}
	if version != old.version+1 { // another process has written, too
		return readState(tx)
	}
	next, err := old.with(tx, rows, version)
	if err == nil && s.db.Shared() {
		if next.change, err = tx.LastChange(); err == nil {
			next.change++ // the transaction's own
		}
	}
	return next, err
}

// Follow adds the writes of other processes to the state. c are the changes since the last call. It must be
// called with changes of every kind, because it remembers the last one, and reads on from there.
func (s *Service) Follow(tx *metadb.Tx, c metadb.Changes) error {
	if c.All || c.ControlWrites > 0 {
		return s.readOthers(tx)
	}
	s.followed.Store(c.Last)
	return nil
}

// readOthers brings the state to what tx sees of the writes of other processes.
func (s *Service) readOthers(tx *metadb.Tx) error {
	old := s.state.Load()
	version, err := tx.ControlVersion()
	if err != nil || version <= old.version {
		return err
	}
	c, err := tx.ChangesAfter(max(old.change, s.followed.Load()), "")
	if err != nil {
		return err
	}
	if c.All || c.ControlWrites != version-old.version {
		next, err := readState(tx)
		if err == nil {
			s.publishAll(next)
		}
		return err
	}
	rows := c.ControlRows()
	next, err := old.with(tx, rows, version)
	if err == nil {
		next.change = c.Last
		s.publish(next, rows, affectedChildren(old, next, rows, s.self))
	}
	return err
}

// CatchUp returns as soon as the state is at least as new as version, a version that the database
// has already. It waits for a write that is being published, and reads the writes of other processes.
func (s *Service) CatchUp(ctx context.Context, version int64) error {
	if s.db.Shared() {
		return s.db.View(ctx, s.readOthers)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.State().Version() >= version {
		return nil
	}
	return s.reload(ctx)
}

// reload reads the whole state again.
func (s *Service) reload(ctx context.Context) error {
	next, err := metadb.Read(ctx, s.db, readState)
	if err == nil {
		s.publishAll(next)
	}
	return err
}

// reloadLate is [Service.reload] after a write of which it was unknown whether it was committed.
func (s *Service) reloadLate() {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.reload(context.Background()); err != nil {
		s.log.Error("the control plane is not read again", "err", err)
	}
}

// publish makes next the current state, unless there is a newer one, and wakes all waiters for a
// change that affects one of the connected registries. The rows are those that differ.
func (s *Service) publish(next *State, rows []metadb.ControlRow, affected []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.version < s.state.Load().version {
		return // whoever published that has woken the waiters
	}
	s.recent.add(s.state.Load().version, next.version, rows)
	s.state.Store(next)
	for _, name := range affected {
		s.changed[name] = next.version
		if c := s.waiting[name]; c != nil {
			close(c)
			delete(s.waiting, name)
		}
	}
}

// publishAll is like publish, for a state whose changes are not known: it wakes all waiters.
func (s *Service) publishAll(next *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.state.Load(); now != nil && next.version < now.version {
		return
	}
	s.state.Store(next)
	s.recent = recentWrites{}
	s.reloaded = next.version
	clear(s.changed)
	s.wakeLocked()
}

// Wake closes the channels of [Service.Changed]: something else changed that all children are told.
func (s *Service) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wakeLocked()
}

func (s *Service) wakeLocked() {
	for name, c := range s.waiting {
		close(c)
		delete(s.waiting, name)
	}
}

// Changed returns a channel that is closed with the next change that affects the child name: a
// change to the child itself, to its descendants, or to their tokens and scope maps.
func (s *Service) Changed(name string) <-chan struct{} {
	name = strings.ToLower(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.waiting[name]
	if c == nil {
		c = make(chan struct{})
		s.waiting[name] = c
	}
	return c
}

// ChangedAt returns the version of the state that last affected the child name, in the sense of
// [Service.Changed].
func (s *Service) ChangedAt(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.reloaded, s.changed[strings.ToLower(name)])
}

// readAll returns the result of convert for every row that list reads.
func readAll[R, T any](
	ctx context.Context, s *Service, list func(*metadb.Tx) ([]R, error), convert func(R) T,
) ([]T, error) {
	rows, err := metadb.Read(ctx, s.db, list)
	all := []T{}
	for _, row := range rows {
		all = append(all, convert(row))
	}
	return all, err
}
