// Package fleet manages the connected registries of an instance: their tree; the settings of each
// ([Service.Create], [Service.Update]); the desired state that a parent sends to a child
// ([Service.Desired]) and that the child applies ([Service.Apply]); the reports of children
// ([Service.Activate], [Service.Report]); and the sync status that follows from the reports
// ([Service.DescendantSync], [Service.DescendantItems]). Begin at [Service].
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

// Content is the stored content with which connected registries are compared; [storage.Storage]
// implements it.
type Content interface {
	View(ctx context.Context, fn func(*storage.View) error) error
	// Watch returns a channel that is closed when a repository that concerns the key changes.
	Watch(key string, concerns func(repository string) bool) (changed <-chan struct{}, stop func())
}

// Options configure a Service. DB, Control and Content are required.
type Options struct {
	DB      *metadb.DB
	Control *control.Service
	Content Content
	// Address is the address of this instance for its children, as "host:port"; if it is "", the
	// address that the caller used is returned to them.
	Address string
	// TLS reports whether that address, or that of the instance itself, speaks TLS.
	TLS bool
	// Status returns the current status of this connected registry, and when its parent last
	// answered. A nil function, or a nil status, means that there is none yet.
	Status func() (st *wire.Status, heard time.Time)
	// Announce returns another address of this instance that its children try once this one does not
	// answer any more; "" is none. nil is none.
	Announce func() string
	// Events records the events of descendants; nil ignores what they send.
	Events EventReceiver
	Now    func() time.Time // nil is time.Now
}

// A Service manages the connected registries of one instance. It is safe for concurrent use. It
// writes scope maps and tokens of its [control.Service] in the same transactions as its own rows.
type Service struct {
	db      *metadb.DB
	control *control.Service
	content Content
	address string
	tls     bool // of address or, if that is "", of the instance itself
	status  func() (*wire.Status, time.Time)
	now     func() time.Time

	events      EventReceiver
	records     recordLimits
	reports     reports
	connections connections
	tracker     tracker
	rooms       rooms

	announce func() string

	mu      sync.Mutex
	desired map[string]cachedDesired
	accepts bool // the root accepts passwords that connected registries make themselves
	// asked are, by child in lower case, the changes of passwords to pass on to the parent.
	asked map[string][]wire.PasswordChange
	// joined are, by connected registry in lower case, the exchanges of join tokens here of which the
	// root has not heard yet.
	joined map[string]wire.PasswordChange
}

// A cachedDesired is the desired state of one child at a version of the control plane.
type cachedDesired struct {
	value     *wire.Desired
	version   int64
	announced string
}

var _ gateway.ControlPlane = (*Service)(nil)

// New returns the service of an instance. It reads the last reports from the database.
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		db: o.DB, control: o.Control, content: o.Content, address: o.Address, tls: o.TLS, status: o.Status, now: o.Now,
		events:  o.Events,
		reports: reports{unsaved: map[string]bool{}},
		tracker: tracker{of: map[string]*tracked{}, backlogs: map[backlogKey]*backlog{}},
		rooms:   rooms{of: map[string]*room{}},
		desired: map[string]cachedDesired{}, asked: map[string][]wire.PasswordChange{}, announce: o.Announce,
	}
	if s.announce == nil {
		s.announce = func() string { return "" }
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
	below, err := metadb.Read(ctx, s.db, readPasswordsBelow)
	if err != nil {
		return nil, fmt.Errorf("open connected registries: %w", err)
	}
	below.Accepted = below.Accepted || s.control.Self() == ""
	s.setPasswordsBelow(below)
	return s, nil
}

// Changed returns a channel that is closed when the result of [Service.Desired] may have changed.
// Implements [gateway.ControlPlane].
func (s *Service) Changed(name string) <-chan struct{} { return s.control.Changed(name) }

// CatchUp returns as soon as [Service.Version] is at least version. Implements
// [gateway.ControlPlane].
func (s *Service) CatchUp(ctx context.Context, version int64) error {
	return s.control.CatchUp(ctx, version)
}

// Version returns the version of the control plane. Implements [gateway.ControlPlane].
func (s *Service) Version() int64 { return s.control.State().Version() }
