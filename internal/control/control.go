// Package control decides who may do what, and where: scope maps, tokens,
// connected registries and operators, and the management API over them.
//
// In a root registry its resources are written through that API. In a
// connected registry they are what the parent sent last: they can be read
// there with the link down, and only the parent's word changes them.
package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"ferry/internal/auth"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A Feed tells connected registries that something was changed. It is kept
// in step with the change itself by being written in its transaction.
type Feed interface {
	// NoteControlChange appends to the change feed within a transaction.
	NoteControlChange(tx *metadb.Tx) error
	// Notify wakes the feed's readers, once the transaction is committed.
	Notify()
}

// Options are what a Service is made of. DB and Feed are required.
type Options struct {
	DB   *metadb.DB
	Feed Feed
	// Self is the connected registry that this instance is, as its connection
	// string names it; "" is a root.
	Self string
	// Address is how others reach this instance, as "host:port"; "" is the
	// address that a caller used.
	Address string
	// Status returns what a connected registry would report of itself; nil,
	// or a nil result, is nothing yet.
	Status func() *wire.Status
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
	Random io.Reader        // of passwords; nil is crypto/rand
}

// A Service is the control plane of one instance. It is safe for concurrent
// use, and it alone may write the tables that it reads: what it knows it
// keeps in memory until it writes.
type Service struct {
	db      *metadb.DB
	feed    Feed
	self    string
	address string
	status  func() *wire.Status
	log     *slog.Logger
	now     func() time.Time
	random  io.Reader

	instance  string
	signer    *auth.Signer
	directory *directory

	// generation counts the writes; what was remembered before is of no use.
	generation atomic.Int64
	mu         sync.Mutex
	desired    map[string]remembered[*wire.Desired]
}

// A remembered value is as it was read at a generation.
type remembered[T any] struct {
	value      T
	generation int64
}

var _ gateway.ControlPlane = (*Service)(nil)

// New returns the control plane of an instance. At the instance's first
// start it makes what has to be there: its id, its signing key and, in a
// root, the scope maps that are defined by the system. A data directory that
// belongs to another role, or to another connected registry, is an error.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil || o.Feed == nil {
		return nil, errors.New("open control plane: it needs a database and a change feed")
	}
	s := &Service{
		db: o.DB, feed: o.Feed, self: o.Self, address: o.Address, status: o.Status, log: o.Log, now: o.Now, random: o.Random,
		desired: map[string]remembered[*wire.Desired]{},
	}
	if s.status == nil {
		s.status = func() *wire.Status { return nil }
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.random == nil {
		s.random = rand.Reader
	}
	s.directory = newDirectory(s)
	if err := s.prepare(ctx); err != nil {
		return nil, fmt.Errorf("open control plane: %w", err)
	}
	return s, nil
}

// InstanceID tells this instance from every other. It is made at the first
// start.
func (s *Service) InstanceID() string { return s.instance }

// Signer makes and reads this instance's short tokens.
func (s *Service) Signer() *auth.Signer { return s.signer }

// Directory knows who may use this instance: in a root every enabled token;
// in a connected registry its client tokens and the sync tokens of its
// children; in both the operators.
func (s *Service) Directory() auth.Directory { return s.directory }

// isSelf reports whether name is the connected registry that this instance is.
func (s *Service) isSelf(name string) bool { return s.self != "" && strings.EqualFold(s.self, name) }

// isChild reports whether the row is right below this instance.
func (s *Service) isChild(row metadb.ConnectedRegistry) bool {
	return strings.EqualFold(row.Parent, s.self) && !s.isSelf(row.Name)
}

// change runs fn in a transaction that changes what connected registries are
// told or tokens may do, and lets everybody know.
func (s *Service) change(ctx context.Context, fn func(*metadb.Tx) error) error {
	err := s.update(ctx, func(tx *metadb.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return s.feed.NoteControlChange(tx)
	})
	if err == nil {
		s.feed.Notify()
	}
	return err
}

// update runs fn in a transaction, and forgets what was read before.
func (s *Service) update(ctx context.Context, fn func(*metadb.Tx) error) error {
	err := s.db.Update(ctx, fn)
	s.generation.Add(1) // with an error, too: whether it was committed may be unknown
	return err
}
