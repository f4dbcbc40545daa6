// Package fleet is the connected registries of an instance: the tree of them,
// what was decided for each ([Service.Create], [Service.Update]), what each is
// told ([Service.Desired]) and makes of it ([Service.Apply]), what it says
// ([Service.Activate], [Service.Report]), and what is known of it therefore
// ([Service.DescendantSync], [Service.DescendantItems]). It begins at [Service].
package fleet

import (
	"context"
	"fmt"
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
	// Status returns what a connected registry would report of itself, and when
	// its parent last answered before that; nil, or a nil result, is nothing yet.
	Status func() (st *wire.Status, heard time.Time)
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
	status  func() (*wire.Status, time.Time)
	now     func() time.Time

	reports reports

	mu      sync.Mutex
	desired map[string]remembered
}

// A remembered desired state is as it was at a version of the control plane.
type remembered struct {
	value   *wire.Desired
	version int64
}

var _ gateway.ControlPlane = (*Service)(nil)

// New returns the connected registries of an instance, with what they said last.
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		db: o.DB, control: o.Control, content: o.Content, address: o.Address, status: o.Status, now: o.Now,
		reports: reports{unsaved: map[string]bool{}}, desired: map[string]remembered{},
	}
	if s.status == nil {
		s.status = func() (*wire.Status, time.Time) { return nil, time.Time{} }
	}
	if s.now == nil {
		s.now = time.Now
	}
	var err error
	if s.reports.last, err = metadb.Read(ctx, s.db, readReports); err != nil {
		return nil, fmt.Errorf("open connected registries: %w", err)
	}
	return s, nil
}

// Changed returns a channel that is closed when the result of [Service.Desired]
// may be another than before. Implements [gateway.ControlPlane].
func (s *Service) Changed(name string) <-chan struct{} { return s.control.Changed(name) }

// CatchUp returns once [Service.Version] is at least version. Implements
// [gateway.ControlPlane].
func (s *Service) CatchUp(ctx context.Context, version int64) error {
	return s.control.CatchUp(ctx, version)
}

// Version returns the version of the control plane. Implements [gateway.ControlPlane].
func (s *Service) Version() int64 { return s.control.State().Version() }
