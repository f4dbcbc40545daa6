// Package control decides who may do what, and where: scope maps, tokens,
// operators and mirror rules, with an audit log. It begins at [Service].
//
// In a root registry its resources are written through the management API. In
// a connected registry they are what the parent sent last: they can be read
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
	"ferry/internal/metadb"
)

// Options are what a Service is made of. DB is required.
type Options struct {
	DB *metadb.DB
	// Self is the connected registry that this instance is, as its connection
	// string names it; "" is a root.
	Self   string
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
	Random io.Reader        // of passwords; nil is crypto/rand
}

// A Service is who may do what at one instance. It is safe for concurrent
// use. Whoever writes the tables that it reads does so in a transaction of
// [Service.Change] or [Service.Update]: what was read before is then forgotten.
type Service struct {
	db     *metadb.DB
	self   string
	log    *slog.Logger
	now    func() time.Time
	random io.Reader

	instance  string
	signer    *auth.Signer
	directory *directory

	// generation counts the writes; what was remembered before is of no use.
	generation atomic.Int64

	mu      sync.Mutex
	changed chan struct{} // closed with the next [Service.Change]
}

// New returns the service of an instance. At the instance's first
// start it makes what has to be there: its id, its signing key and, in a
// root, the scope maps that are defined by the system. A data directory that
// belongs to another role, or to another connected registry, is an error.
func New(ctx context.Context, o Options) (*Service, error) {
	if o.DB == nil {
		return nil, errors.New("open control plane: it needs a database")
	}
	s := &Service{db: o.DB, self: o.Self, log: o.Log, now: o.Now, random: o.Random, changed: make(chan struct{})}
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

// Self returns the name of the connected registry that this instance is; "" is
// a root.
func (s *Service) Self() string { return s.self }

// IsSelf reports whether name is the connected registry that this instance is.
func (s *Service) IsSelf(name string) bool { return s.self != "" && strings.EqualFold(s.self, name) }

// IsChild reports whether the row is right below this instance.
func (s *Service) IsChild(row metadb.ConnectedRegistry) bool {
	return strings.EqualFold(row.Parent, s.self) && !s.IsSelf(row.Name)
}

// Change runs fn in a transaction that changes what connected registries are
// told or tokens may do, and lets everybody know.
func (s *Service) Change(ctx context.Context, fn func(*metadb.Tx) error) error {
	if err := s.Update(ctx, fn); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// Changed returns a channel that is closed with the next [Service.Change].
func (s *Service) Changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

// Update runs fn in a transaction, and forgets what was read before.
func (s *Service) Update(ctx context.Context, fn func(*metadb.Tx) error) error {
	err := s.db.Update(ctx, fn)
	s.generation.Add(1) // with an error, too: whether it was committed may be unknown
	return err
}

// Generation counts the writes: what was read at an earlier one may be wrong.
func (s *Service) Generation() int64 { return s.generation.Load() }
