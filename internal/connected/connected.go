// Package connected is the life of a connected registry: it activates itself
// at its parent, follows what the parent decides for it, keeps its content in
// step while its sync window is open, and reports how it is doing.
//
// It only ever dials out, and only while a window is open, but for its
// activation. Nothing that it does, and nothing that the link does to it,
// keeps a client of the registry waiting.
package connected

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"ferry/internal/download"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// A Parent is the other end of the gateway; [gateway.Client] is one.
type Parent interface {
	replication.Source
	download.Batcher
	// Activate binds the instance to the connected registry.
	Activate(ctx context.Context, q wire.ActivateRequest) (*wire.ActivateResponse, error)
	// Poll asks for what changed.
	Poll(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error)
}

var _ Parent = (*gateway.Client)(nil)

// A Fleet is what the instance knows of connected registries: of itself and
// those below it.
type Fleet interface {
	// Apply makes the parent's decisions this instance's own. To apply the
	// same twice changes nothing.
	Apply(ctx context.Context, d *wire.Desired) error
	// Descendants returns what was last heard of those below this instance.
	Descendants(ctx context.Context) ([]wire.Status, error)
}

// Options are what an Agent is made of. Name, Parent, DB, Engine, InstanceID
// and Fleet are required.
type Options struct {
	Name        string // of the connected registry, as the connection string has it
	Parent      Parent
	DB          *metadb.DB
	Engine      *replication.Engine
	InstanceID  string // tells this instance from every other, for good
	Fleet       Fleet
	Version     string           // of the program, for the parent
	LoginServer string           // the address that clients use, for the parent; "" is unknown
	TLS         bool             // whether that address speaks TLS
	Log         *slog.Logger     // nil discards
	Now         func() time.Time // nil is time.Now
}

// An Agent lives a connected registry's life. [Agent.Run] is called once;
// the other methods are safe for concurrent use.
type Agent struct {
	name        string
	parent      Parent
	db          *metadb.DB
	engine      *replication.Engine
	instanceID  string
	fleet       Fleet
	version     string
	loginServer string
	tls         bool
	log         *slog.Logger
	now         func() time.Time

	link link // of the goroutine that runs Run
	cap  *bandwidthCap

	mu      sync.Mutex
	memory  memory
	running context.CancelCauseFunc // of the running sync; nil while none is
	frugal  bool                    // it fetches only what is urgent, since the byte budget is spent
	woken   chan struct{}           // closed when somebody wants something of the agent now
	trouble *wire.StatusDetail      // why the parent was not heard when it was last asked; nil where it was
	noted   time.Time               // when it was last written down that the parent was heard

	unwritten int64 // bytes that were spent since that was last written down
}

// New returns the agent, with what it remembers of earlier runs.
func New(ctx context.Context, o Options) (*Agent, error) {
	if o.Name == "" || o.Parent == nil || o.DB == nil || o.Engine == nil || o.InstanceID == "" || o.Fleet == nil {
		return nil, errors.New("start agent: it needs a name, a parent, a database, an engine and a control plane")
	}
	a := &Agent{
		name: o.Name, parent: o.Parent, db: o.DB, engine: o.Engine, instanceID: o.InstanceID, fleet: o.Fleet,
		version: o.Version, loginServer: o.LoginServer, tls: o.TLS, log: o.Log, now: o.Now,
		woken: make(chan struct{}),
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	if a.now == nil {
		a.now = time.Now
	}
	a.link = link{log: a.log, now: a.now}
	a.cap = newBandwidthCap(func() []string { return a.recalled().Self.Bandwidth }, a.now)
	if err := a.recall(ctx); err != nil {
		return nil, err
	}
	a.engine.RestoreInFlight(a.memory.Left)
	return a, nil
}

// Run lives until ctx ends, and then returns nil. Neither the link nor the
// parent can end it: whatever they do, it tries again, at a pace that does
// neither harm.
func (a *Agent) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if !a.recalled().Activated {
			a.activate(ctx)
			continue
		}
		if a.awaitWindow(ctx) {
			a.follow(ctx)
		}
	}
	return nil
}
