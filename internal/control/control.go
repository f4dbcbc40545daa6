// Package control decides who may do what, and where: scope maps, tokens,
// operators and mirror rules, with an audit log. It begins at [Service].
//
// In a root registry its resources are written through the management API. In
// a connected registry they are what the parent sent last: they can be read
// there with the link down, and only the parent's word changes them.
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

// Options are what a Service is made of. DB is required.
type Options struct {
	DB *metadb.DB
	// Self is the connected registry that this instance is, as its connection
	// string names it; "" is a root.
	Self string
	// Instance is the id for an instance whose database is empty; "" makes one up.
	Instance string
	// Adopt makes anew what a database lacks that was in use. Else that is [ErrDamaged].
	Adopt bool
	Log   *slog.Logger     // nil discards
	Now   func() time.Time // nil is time.Now
}

// A Service is who may do what at one instance. It is safe for concurrent
// use. Whoever writes the tables that its [State] is of does so in a
// transaction of [Service.Change].
type Service struct {
	db   *metadb.DB
	self string
	log  *slog.Logger
	now  func() time.Time

	instance string
	verifier *auth.OperatorVerifier
	failed   *failedLogins

	state   atomic.Pointer[State]
	writing sync.Mutex // held by the one write at a time, until its state is published

	mu       sync.Mutex
	waiting  map[string]chan struct{} // by connected registry, in lower case; see [Service.Changed]
	changed  map[string]int64         // by connected registry: the version that last concerned it
	reloaded int64                    // the version at which everything was read anew, which concerns all
}

// New returns the service of an instance. At the instance's first
// start it makes what has to be there: its id, its role and, in a
// root, the scope maps that are defined by the system. A database that belongs to
// another role, or to another connected registry, is an error, and so is one that
// was in use and lacks any of it ([ErrDamaged]).
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil {
		return nil, errors.New("open control plane: it needs a database")
	}
	s := &Service{
		db: o.DB, self: o.Self, now: o.Now, verifier: auth.NewOperatorVerifier(), failed: newFailedLogins(),
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), waiting: map[string]chan struct{}{},
		changed: map[string]int64{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	err := s.prepare(ctx, o)
	if err == nil {
		err = s.reload(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("open control plane: %w", err)
	}
	return s, nil
}

// InstanceID tells this instance from every other. It is made at the first
// start.
func (s *Service) InstanceID() string { return s.instance }

// Directory knows who may use this instance: in a root every enabled token;
// in a connected registry its client tokens and the sync tokens of its
// children; in both the operators.
func (s *Service) Directory() auth.Directory { return directory{s} }

// Self returns the name of the connected registry that this instance is; "" is
// a root.
func (s *Service) Self() string { return s.self }

// IsSelf reports whether name is the connected registry that this instance is.
func (s *Service) IsSelf(name string) bool { return s.self != "" && strings.EqualFold(s.self, name) }

// IsChild reports whether the row is right below this instance.
func (s *Service) IsChild(row metadb.ConnectedRegistry) bool {
	return strings.EqualFold(row.Parent, s.self) && !s.IsSelf(row.Name)
}

// State returns the control plane as it is now.
func (s *Service) State() *State { return s.state.Load() }

// Change runs fn in a transaction that may write the control plane, and
// publishes the state that follows before it returns. On a full disk the transaction has
// the reserve, and fn may be run twice.
func (s *Service) Change(ctx context.Context, fn func(*metadb.Tx) error) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	old := s.state.Load()
	var next *State
	var rows []metadb.ControlRow
	uncertain := false // whether it was committed
	err := s.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) (err error) {
		next, uncertain = nil, false
		if err := fn(tx); err != nil {
			return err
		}
		uncertain = true
		if rows = tx.ControlRows(); len(rows) == 0 {
			return nil
		}
		version, err := tx.AdvanceControl()
		if err != nil {
			return err
		}
		if version != old.version+1 { // another process wrote, too
			next, err = readState(tx)
			return err
		}
		next, err = old.with(tx, rows, version)
		return err
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
		s.publish(next, concerned(old, next, rows, s.self))
	}
	return nil
}

// CatchUp returns once the state is at least of the version, which the database
// has: a write that is being published is waited for, and what another process
// wrote is read.
func (s *Service) CatchUp(ctx context.Context, version int64) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	if s.State().Version() >= version {
		return nil
	}
	return s.reload(ctx)
}

// reload reads the whole state anew.
func (s *Service) reload(ctx context.Context) error {
	next, err := metadb.Read(ctx, s.db, readState)
	if err == nil {
		s.publishAll(next)
	}
	return err
}

// publish makes next the state, and wakes those who wait for a change that
// concerns one of the connected registries.
func (s *Service) publish(next *State, concerned []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Store(next)
	for _, name := range concerned {
		s.changed[name] = next.version
		if c := s.waiting[name]; c != nil {
			close(c)
			delete(s.waiting, name)
		}
	}
}

// publishAll is publish for a state of which nobody knows what changed.
func (s *Service) publishAll(next *State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Store(next)
	s.reloaded = next.version
	clear(s.changed)
	for name, c := range s.waiting {
		close(c)
		delete(s.waiting, name)
	}
}

// Changed returns a channel that is closed with the next change that concerns
// the connected registry name, which is right below this instance: of itself, of
// its descendants, and of their tokens and scope maps.
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

// ChangedAt returns the version of the state that last concerned the connected
// registry name, as [Service.Changed] has it.
func (s *Service) ChangedAt(name string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(s.reloaded, s.changed[strings.ToLower(name)])
}

// readAll returns what of makes of every row that list reads.
func readAll[R, T any](ctx context.Context, s *Service, list func(*metadb.Tx) ([]R, error), of func(R) T) ([]T, error) {
	rows, err := metadb.Read(ctx, s.db, list)
	all := []T{}
	for _, row := range rows {
		all = append(all, of(row))
	}
	return all, err
}
