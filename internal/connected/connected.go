// Package connected runs a connected registry: it activates the instance at its
// parent, applies the desired state, keeps the content in sync while a sync
// window is open, and reports its status.
//
// It only makes outbound connections and, except for the activation, only
// while a window is open. Clients of the registry never wait for it.
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

	"ferry/internal/credential"
	"ferry/internal/download"
	"ferry/internal/events"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/outbox"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// A Parent is the parent's side of the gateway; [gateway.Client] is one.
type Parent interface {
	replication.Source
	download.Batcher
	outbox.Parent
	// Activate binds the instance to the connected registry.
	Activate(ctx context.Context, q wire.ActivateRequest) (*wire.ActivateResponse, error)
	// Poll sends the report, and asks for changes.
	Poll(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error)
	// Connect makes the next request use a login.
	Connect(login wire.ConnectionString)
	// Join exchanges the join token of the login for a password.
	Join(ctx context.Context, q wire.JoinRequest) error
	// ParentTime returns the time on the parent's clock, calculated from its last answer; zero if
	// there was none.
	ParentTime() time.Time
}

var _ Parent = (*gateway.Client)(nil)

// A Fleet keeps the desired state of this instance and its descendants, and the
// last reports of the descendants.
type Fleet interface {
	// Apply stores a desired state. It changes nothing if that is stored already.
	Apply(ctx context.Context, d *wire.Desired) error
	// Descendants returns the last known status of each descendant.
	Descendants(ctx context.Context) ([]wire.Status, error)
	// ReportsChanged returns a channel that is closed when the state or the watermarks of a
	// descendant next change.
	// It is closed, too, if the result of PasswordChanges may have changed.
	ReportsChanged() <-chan struct{}
	// PasswordChanges returns the new passwords of descendants that the root must accept.
	PasswordChanges() []wire.PasswordChange
}

// A Content finds damage to the stored content.
type Content interface {
	// CheckFiles finds blobs whose files are lost, and takes them out of service.
	CheckFiles(ctx context.Context) (lost int, err error)
	// Start begins to read all stored content again.
	Start(ctx context.Context) error
	// DamageFound returns a channel that is closed when content is next found damaged.
	DamageFound() <-chan struct{}
}

// Records are events and audit entries for the parent; [events.Service] implements it.
type Records interface {
	// Outgoing returns those that the parent must get next.
	Outgoing(ctx context.Context) (events.Batch, error)
	// Forwarded records how many of a batch the parent has stored.
	Forwarded(ctx context.Context, b events.Batch, stored wire.Stored) error
	// Appended returns a channel that is closed when events are next recorded.
	Appended() <-chan struct{}
}

// Options are the parts and settings of an Agent. Name, Parent, Credentials, DB, Engine,
// InstanceID, Fleet and Content are required.
type Options struct {
	Name        string // of the connected registry, from the connection string
	Parent      Parent
	Credentials *credential.Store
	DB          *metadb.DB
	Engine      *replication.Engine
	InstanceID  string // unique, and the same after a restart
	Fleet       Fleet
	Content     Content
	Records     Records // nil sends none
	// Storage has the changes that clients make here, which are sent to the parent. nil sends nothing.
	Storage *storage.Storage
	// Audit returns what is written to the audit log about a conflict; nil is nothing.
	Audit       func(action, object, detail string) storage.Note
	Version     string // of the program, for the report
	LoginServer string // the address for clients, for the report; "" is unknown
	TLS         bool   // whether that address speaks TLS
	// CertificateDir is the directory of that address's certificate; "" if a proxy has it.
	CertificateDir string
	Endpoint       string           // the address for children, for the report; "" is LoginServer
	Log            *slog.Logger     // nil discards
	Now            func() time.Time // nil is time.Now
}

// An Agent runs a connected registry. [Agent.Run] is called once; the other
// methods are safe for concurrent use.
type Agent struct {
	options     Options
	parent      Parent
	credentials *credential.Store
	engine      *replication.Engine
	log         *slog.Logger
	now         func() time.Time
	link        *parentLink
	clock       *clock
	bandwidth   *bandwidthCap
	outbox      *outbox.Sender // nil if nothing is sent

	mu         sync.Mutex
	state      state
	stopSync   context.CancelCauseFunc // stops the running sync; nil while none runs
	urgentOnly bool                    // the running sync fetches only urgent repositories
	wakeup     chan struct{}           // closed when an operator asks for something
	moved      chan struct{}           // closed when the watermarks change
	stopSend   context.CancelCauseFunc // stops the sending of changes; nil while nothing is sent
	// sendsUrgentOnly says that only changes in urgent repositories are sent.
	sendsUrgentOnly bool
	receives        bool      // the parent receives changes
	notReceiving    time.Time // since when the parent's answers say that it does not; zero if they do, or none came
	answerSaved     time.Time // when the time of the parent's last answer was last saved
	unsaved         int64     // bytes of the byte budget that were spent since the last save
}

// New returns the agent, with the state that an earlier run saved.
func New(ctx context.Context, o Options) (*Agent, error) {
	if o.Name == "" || o.InstanceID == "" {
		return nil, errors.New("start agent: it needs a name and an instance id")
	}
	if o.Credentials == nil {
		return nil, errors.New("start agent: it needs credentials")
	}
	if o.Parent == nil || o.DB == nil || o.Engine == nil || o.Fleet == nil || o.Content == nil {
		return nil, errors.New("start agent: it needs a parent, a database, an engine, a fleet and content")
	}
	if o.Records == nil {
		o.Records = noRecords{}
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	a := &Agent{
		options: o, parent: o.Parent, credentials: o.Credentials, engine: o.Engine, log: o.Log, now: o.Now,
		link: &parentLink{log: o.Log, now: o.Now}, clock: &clock{log: o.Log}, wakeup: make(chan struct{}),
		moved: make(chan struct{}),
	}
	a.bandwidth = newBandwidthCap(func() []string { return a.current().Self.Bandwidth }, a.now)
	if o.Storage != nil {
		a.outbox = outbox.New(outbox.Options{
			Storage: o.Storage, DB: o.DB, Parent: o.Parent, Name: o.Name, InstanceID: o.InstanceID, Limit: a.limitSent,
			Audit: o.Audit, Log: o.Log,
		})
	}
	if err := a.load(ctx); err != nil {
		return nil, err
	}
	a.engine.RestoreInFlight(a.state.InFlight)
	a.link.restore(a.state.Problem)
	return a, nil
}

// Run runs until ctx ends, and then returns nil. It never gives up: after every
// failure of the link or the parent it tries again, with pauses.
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

// activate binds this instance to its connected registry. It tries until it
// succeeds or ctx ends.
func (a *Agent) activate(ctx context.Context) {
	for ctx.Err() == nil {
		wakeup := a.awaitWakeup()
		q := wire.ActivateRequest{InstanceID: a.options.InstanceID, Version: a.options.Version}
		var answer *wire.ActivateResponse
		err := a.withLogin(ctx, func() (err error) {
			answer, err = a.parent.Activate(ctx, q)
			return err
		})
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
			retry.Sleep(ctx, a.pauseAfterFailure(ctx, err), wakeup)
		}
	}
}

// deactivatedPause is how long an instance that was deactivated while it ran
// waits before it activates again.
const deactivatedPause = 10 * time.Minute

// deactivated records that the parent refused this instance with err, because
// its activation was ended. The instance goes on serving. It does not activate
// again for a while, because most running instances are deactivated so that
// another can take their place.
func (a *Agent) deactivated(ctx context.Context, err error) {
	wakeup := a.awaitWakeup()
	a.update(ctx, func(s *state) { s.Activated = false })
	a.pauseAfterFailure(ctx, parentError{deactivatedError{err}})
	retry.Sleep(ctx, deactivatedPause, wakeup)
}

// pauseAfterFailure is [parentLink.pauseAfterFailure]. It also saves the problem if a person must
// solve it, so that the status has it after a restart.
func (a *Agent) pauseAfterFailure(ctx context.Context, err error) (pause time.Duration) {
	pause = a.link.pauseAfterFailure(err)
	a.clock.compare(a.now(), a.parent.ParentTime())
	a.saveProblem(ctx)
	return pause
}

// saveProblem saves the problem that a person must solve, if it has changed.
func (a *Agent) saveProblem(ctx context.Context) {
	had, now := a.current().Problem, a.link.lastingProblem()
	if had == nil && now == nil || had != nil && now != nil && had.Code == now.Code {
		return
	}
	a.update(ctx, func(s *state) { s.Problem = now })
}

// applyDesired stores the desired state, and follows it from now on.
func (a *Agent) applyDesired(ctx context.Context, d *wire.Desired) error {
	if err := a.options.Fleet.Apply(ctx, d); err != nil {
		return err
	}
	a.applyToLogin(d)
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

// saveAnswerEvery is how often the time of the parent's last answer is saved. A
// restart loses at most that much.
const saveAnswerEvery = 10 * time.Minute

// parentAnswered records that the parent answered, and returns true if the link
// was down until then.
func (a *Agent) parentAnswered(ctx context.Context) (wasDown bool) {
	now := a.now()
	a.mu.Lock()
	a.state.LastAnswer = now
	age := now.Sub(a.answerSaved)
	due := age < 0 || age >= saveAnswerEvery
	if due {
		a.answerSaved = now
	}
	a.mu.Unlock()
	if due {
		a.save(ctx)
	}
	wasDown = a.link.answered()
	a.clock.compare(now, a.parent.ParentTime())
	a.saveProblem(ctx)
	return wasDown
}

// LastAnswer returns when the parent last answered, also before a restart. Zero
// is never.
func (a *Agent) LastAnswer() time.Time { return a.current().LastAnswer }
