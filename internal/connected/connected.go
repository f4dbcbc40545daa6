// Package connected is the life of a connected registry: it activates itself
// at its parent, follows what the parent decides for it, keeps its content in
// step while its sync window is open, and reports how it is doing.
//
// It only makes outbound connections and, apart from its activation, only
// while a window is open. It never keeps a client of the registry waiting.
//
// Begin with [Agent.Run]. A session (session.go) is one open window.
package connected

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ferry/internal/download"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
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
	// ParentTime returns what the parent's clock says now, as far as its last
	// answer tells; zero if none did.
	ParentTime() time.Time
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

// A Content looks after what is stored here.
type Content interface {
	// CheckFiles finds blobs whose files are lost, and takes them out of service.
	CheckFiles(ctx context.Context) (lost int, err error)
	// Order begins to read everything that is stored again.
	Order(ctx context.Context) error
	// DamageFound returns a channel that is closed when content is next found damaged.
	DamageFound() <-chan struct{}
}

// Options are what an Agent is made of. Name, Parent, DB, Engine, InstanceID,
// Fleet and Content are required.
type Options struct {
	Name        string // of the connected registry, as the connection string has it
	Parent      Parent
	DB          *metadb.DB
	Engine      *replication.Engine
	InstanceID  string // tells this instance from every other, for good
	Fleet       Fleet
	Content     Content
	Version     string           // of the program, for the parent
	LoginServer string           // the address that clients use, for the parent; "" is unknown
	TLS         bool             // whether that address speaks TLS
	Log         *slog.Logger     // nil discards
	Now         func() time.Time // nil is time.Now
}

// An Agent lives a connected registry's life. [Agent.Run] is called once;
// the other methods are safe for concurrent use.
type Agent struct {
	options   Options
	parent    Parent
	engine    *replication.Engine
	log       *slog.Logger
	now       func() time.Time
	link      *link
	clock     *clock
	bandwidth *bandwidthCap

	mu         sync.Mutex
	state      state
	stopSync   context.CancelCauseFunc // stops the running sync; nil while none runs
	urgentOnly bool                    // the running sync fetches only what is urgent
	wakeup     chan struct{}           // closed when somebody wants something of the agent now
	heardSaved time.Time               // when it was last saved that the parent answered
	unsaved    int64                   // bytes that were spent since that was last saved
}

// New returns the agent, with the state that an earlier run saved.
func New(ctx context.Context, o Options) (*Agent, error) {
	if o.Name == "" || o.Parent == nil || o.DB == nil || o.Engine == nil || o.InstanceID == "" || o.Fleet == nil || o.Content == nil {
		return nil, errors.New("start agent: it needs a name, a parent, a database, an engine, a control plane and content")
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Agent{
		options: o, parent: o.Parent, engine: o.Engine, log: o.Log, now: o.Now,
		link: &link{log: o.Log, now: o.Now}, clock: &clock{log: o.Log}, wakeup: make(chan struct{}),
	}
	a.bandwidth = newBandwidthCap(func() []string { return a.current().Self.Bandwidth }, a.now)
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	a.engine.RestoreInFlight(a.state.Left)
	a.link.restore(a.state.Trouble)
	return a, nil
}

// Run lives until ctx ends, and then returns nil. Neither the link nor the
// parent can end it: whatever they do, it tries again, at a pace that does
// neither harm.
func (a *Agent) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if !a.current().Activated {
			a.activate(ctx)
			continue
		}
		if a.awaitWindow(ctx) {
			a.runSession(ctx)
		}
	}
	return nil
}

// activate binds this instance to its connected registry, however long that
// takes; only ctx's end stops it.
func (a *Agent) activate(ctx context.Context) {
	for ctx.Err() == nil {
		wakeup := a.awaitWakeup()
		q := wire.ActivateRequest{InstanceID: a.options.InstanceID, Version: a.options.Version}
		answer, err := a.parent.Activate(ctx, q)
		if err == nil && answer.Desired == nil {
			err = errors.New("the parent's answer has no desired state")
		}
		if err != nil {
			err = parentError{err}
		} else if err = a.applyDesired(ctx, answer.Desired); err == nil {
			a.parentAnswered(ctx)
			a.update(ctx, func(s *state) { s.Activated, s.ActivatedAt = true, a.now() })
			a.log.Info("connected registry is activated", "registry", a.options.Name,
				"schedule", answer.Desired.Self.Schedule, "window", answer.Desired.Self.SyncWindow)
			return
		}
		if ctx.Err() == nil {
			retry.Sleep(ctx, a.failed(ctx, err), wakeup)
		}
	}
}

// deactivatedPause is how long an instance that was deactivated while it ran
// leaves its place to another.
const deactivatedPause = 10 * time.Minute

// deactivated records that the parent, which answered with err, does not know
// this instance any more. It goes on serving, and leaves its place to another for
// a while, because a running instance is mostly deactivated to be replaced.
func (a *Agent) deactivated(ctx context.Context, err error) {
	wakeup := a.awaitWakeup()
	a.update(ctx, func(s *state) { s.Activated = false })
	a.failed(ctx, parentError{deactivatedError{err}})
	retry.Sleep(ctx, deactivatedPause, wakeup)
}

// failed records a failure, as [link.failed] does, and keeps for a restart what a
// person must see to.
func (a *Agent) failed(ctx context.Context, err error) (pause time.Duration) {
	pause = a.link.failed(err)
	a.clock.compare(a.now(), a.parent.ParentTime())
	a.keepTrouble(ctx)
	return pause
}

// keepTrouble saves what a person must see to, where that is other than before.
func (a *Agent) keepTrouble(ctx context.Context) {
	had, now := a.current().Trouble, a.link.toKeep()
	if had == nil && now == nil || had != nil && now != nil && had.Code == now.Code {
		return
	}
	a.update(ctx, func(s *state) { s.Trouble = now })
}

// applyDesired makes the parent's decisions this instance's own.
func (a *Agent) applyDesired(ctx context.Context, d *wire.Desired) error {
	if err := a.options.Fleet.Apply(ctx, d); err != nil {
		return err
	}
	old := a.current().Self
	a.update(ctx, func(s *state) { s.Self, s.DesiredVersion = d.Self, d.Version })
	if old.Name != "" && (old.Schedule != d.Self.Schedule || old.SyncWindow != d.Self.SyncWindow) {
		a.log.Info("sync schedule changed", "schedule", d.Self.Schedule, "window", d.Self.SyncWindow)
	}
	if !slices.Equal(old.Priorities, d.Self.Priorities) {
		a.reprioritise()
	}
	return nil
}

// heardEvery is how often the time of the parent's last answer is saved: a
// restart forgets no more than that.
const heardEvery = 10 * time.Minute

// parentAnswered records that the parent answered, and reports whether the link
// was down until then.
func (a *Agent) parentAnswered(ctx context.Context) (wasDown bool) {
	now := a.now()
	a.mu.Lock()
	a.state.Heard = now
	age := now.Sub(a.heardSaved)
	due := age < 0 || age >= heardEvery
	if due {
		a.heardSaved = now
	}
	a.mu.Unlock()
	if due {
		a.save(ctx)
	}
	wasDown = a.link.answered()
	a.clock.compare(now, a.parent.ParentTime())
	a.keepTrouble(ctx)
	return wasDown
}

// Heard returns when the parent last answered, also before a restart; zero is
// never.
func (a *Agent) Heard() time.Time { return a.current().Heard }
