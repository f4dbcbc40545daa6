// Package fleet is the connected registries of an instance: the tree of them,
// what was decided for each ([Service.Create], [Service.Update]), what each is
// told ([Service.Desired]) and makes of it ([Service.Apply]), what it says
// ([Service.Activate], [Service.Report]), and what is known of it therefore
// ([Service.SiteSync], [Service.SiteItems]). It begins at [Service].
package fleet

import (
	"context"
	"sync"
	"time"

	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// Content is what connected registries are compared with;
// [storage.Storage] is one.
type Content interface {
	View(ctx context.Context, fn func(*storage.View) error) error
}

// Options are what a Service is made of. DB, Control and Content are required.
type Options struct {
	DB      *metadb.DB
	Control *control.Service
	Content Content
	// Address is how others reach this instance, as "host:port"; "" is the
	// address that a caller used.
	Address string
	// Status returns what a connected registry would report of itself; nil,
	// or a nil result, is nothing yet.
	Status func() *wire.Status
	Now    func() time.Time // nil is time.Now
}

// A Service is the connected registries of one instance. It is safe for
// concurrent use. It writes in transactions of its [control.Service], whose
// scope maps and tokens it writes in the same ones.
type Service struct {
	db      *metadb.DB
	control *control.Service
	content Content
	address string
	status  func() *wire.Status
	now     func() time.Time

	mu      sync.Mutex
	desired map[string]remembered
}

// A remembered desired state is as it was read at a generation.
type remembered struct {
	value      *wire.Desired
	generation int64
}

var _ gateway.ControlPlane = (*Service)(nil)

// New returns the connected registries of an instance.
func New(o Options) *Service {
	s := &Service{
		db: o.DB, control: o.Control, content: o.Content, address: o.Address, status: o.Status, now: o.Now,
		desired: map[string]remembered{},
	}
	if s.status == nil {
		s.status = func() *wire.Status { return nil }
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Changed returns a channel that is closed when anything is written that
// connected registries are told of. Implements [gateway.ControlPlane].
func (s *Service) Changed(name string) <-chan struct{} { return s.control.Changed() }
