package mirror

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"sync"
	"time"

	"ferry/internal/download"
	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/telemetry"
)

// maxRuns is how many rules run at a time, and how many imports. A run that waits for a
// pause of its source does not count.
const maxRuns = 4

// progressTimeout is how long the source of a run may send nothing before the run ends
// and makes room for others. The run is retried and resumes from the same byte; see
// [retryState].
const progressTimeout = 10 * time.Minute

// recheckInterval is how often the service checks its rules against the clock. A clock
// that was set has an effect after this time at most.
const recheckInterval = time.Minute

// Causes of the end of a run before it is done.
var (
	errWindowClosed = errors.New("the window closed")
	errChanged      = errors.New("the rule was changed")
	errNothingComes = errors.New("the source sent nothing for 10 minutes; the retry resumes from the same byte")
)

// A Dial opens a connection, as [net.Dialer.DialContext] does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Options configure a Service. DB, Storage and Key are required.
type Options struct {
	DB          *metadb.DB
	Storage     *storage.Storage
	Key         *Key
	ChunkSize   int64
	Connections int                // of each run; 0 is the engine's default
	Dial        Dial               // how to reach other registries; nil is the network
	Meter       *download.Meter    // counts the downloads; nil is one for each run
	Traffic     *telemetry.Traffic // counts the bytes of connections; nil does not
	Log         *slog.Logger       // nil discards
	Now         func() time.Time   // nil is time.Now
	// Audit returns a function that writes an entry of the audit log; nil writes none.
	Audit func(actor, sender, action, object, detail string) func(*metadb.Tx) error
}

// A Service runs the rules of one instance, and its imports. It is safe for
// concurrent use.
type Service struct {
	Options
	hosts       *hostBackoff
	wake        chan struct{} // has an element if the rules must be checked now
	ruleSlots   slots
	importSlots slots
	jobs        sync.WaitGroup

	mu      sync.Mutex
	running map[string]*run          // by rule
	retries map[string]*retryState   // by rule
	losses  map[string]suspectedLoss // by rule
	imports map[string]*importJob    // that wait or run in this process, by ID
}

// New returns a service. It does nothing until [Service.Run] is called.
func New(o Options) *Service {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{
		Options: o, hosts: &hostBackoff{now: o.Now, until: map[hostRequests]time.Time{}},
		wake: make(chan struct{}, 1), ruleSlots: make(slots, maxRuns), importSlots: make(slots, maxRuns),
		running: map[string]*run{}, retries: map[string]*retryState{}, losses: map[string]suspectedLoss{},
		imports: map[string]*importJob{},
	}
}

// A RunStatus is the state of a rule's run.
type RunStatus struct {
	Running   bool
	Progress  replication.Progress
	Problem   string    // why it makes no progress at the moment; "" if it does
	NotBefore time.Time // when a failed run is retried at the earliest; zero is at once

	BytesPerSecond int64 // over the last seconds
}

// Status returns the state of the rule's run.
func (s *Service) Status(rule string) RunStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.running[rule]; r != nil {
		return r.status()
	}
	if r := s.retries[rule]; r != nil {
		return RunStatus{NotBefore: r.notBefore}
	}
	return RunStatus{}
}

// Changed tells the service that a rule was written or deleted. If the rule runs, its run
// ends, and a new one begins with the new settings.
func (s *Service) Changed(rule string) {
	s.mu.Lock()
	r := s.running[rule]
	delete(s.retries, rule)
	delete(s.losses, rule)
	s.mu.Unlock()
	if r != nil {
		r.cancel(errChanged)
	}
	s.Wake()
}

// Wake makes the service check its rules immediately.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default: // a request is already pending
	}
}

// Run runs rules when they are due, and imports, until ctx ends. It returns once all of
// them have stopped; they keep every byte that they received, and the next Run, perhaps in another process, continues
// from there. Two must not run at a time.
func (s *Service) Run(ctx context.Context) error {
	// The items of imports that were interrupted would keep images that rules must
	// remove. Their leases stay until they expire, so that imports resume from the same byte.
	err := s.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.ForgetSources(importSource) })
	if err != nil && ctx.Err() == nil {
		s.Log.Error("items of earlier imports are not deleted", "err", err)
	}
	s.mu.Lock()
	clear(s.retries) // another process may have run the rules since
	clear(s.losses)
	s.mu.Unlock()
	for ctx.Err() == nil {
		pause, err := s.startDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("mirror rules cannot be read", "err", err)
		}
		if err := s.startImports(ctx); err != nil && ctx.Err() == nil {
			s.Log.Error("imports cannot be read", "err", err)
			pause = min(pause, unavailablePause)
		}
		retry.Sleep(ctx, pause, s.wake)
	}
	s.jobs.Wait()
	return nil
}

// startDue starts the rules that are due, and returns how long to wait before the next
// check.
func (s *Service) startDue(ctx context.Context) (time.Duration, error) {
	// A run records its result before it leaves this map. So the row of a rule that is
	// not in the map, which is read afterwards, is up to date.
	s.mu.Lock()
	running := maps.Clone(s.running)
	s.mu.Unlock()
	rules, err := metadb.Read(ctx, s.DB, (*metadb.Tx).MirrorRules)
	if err != nil {
		return recheckInterval, err
	}
	now, pause := s.Now(), recheckInterval
	for _, rule := range rules {
		v, err := SpecOf(rule)
		var when ruleSchedule
		if err == nil {
			when, err = scheduleOf(v)
		}
		if err != nil {
			s.Log.Error("mirror rule cannot be read", "rule", rule.Name, "err", err)
			continue
		}
		d, ok := when.due(rule, now)
		switch r := running[rule.Name]; {
		case ok && r == nil:
			pause = min(pause, s.start(ctx, rule, v, d))
		case ok && !d.retry:
			r.requestReread(d.since)
		}
		if next := when.Next(now); !next.IsZero() {
			pause = min(pause, max(next.Sub(now), time.Millisecond))
		}
	}
	return pause, nil
}

// start starts the run of a rule, unless it is too early for its retry or no slot is
// free. It returns how long to wait before the next check. A run that releases its slot
// wakes the service.
func (s *Service) start(ctx context.Context, rule metadb.MirrorRule, v Spec, d dueRun) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !d.retry {
		delete(s.retries, rule.Name)
	}
	if r := s.retries[rule.Name]; r != nil {
		if wait := r.notBefore.Sub(s.Now()); wait > 0 {
			return wait
		}
	}
	if !s.ruleSlots.tryAcquire() {
		return recheckInterval
	}
	ctx, cancel := context.WithCancelCause(ctx)
	rule.RetrySince = d.since
	r := newRun(s, rule, v, cancel)
	s.running[rule.Name] = r
	s.jobs.Go(func() {
		defer cancel(nil)
		if !d.until.IsZero() {
			closing := time.AfterFunc(d.until.Sub(s.Now()), func() { cancel(errWindowClosed) })
			defer closing.Stop()
		}
		if !r.execute(ctx) { // without its result, it is due again immediately
			retry.Sleep(ctx, recheckInterval, nil)
		}
		r.releaseSlot()
		s.mu.Lock()
		delete(s.running, rule.Name)
		s.mu.Unlock()
		s.Wake()
	})
	return recheckInterval
}

// EncryptPassword encrypts a password for the registry at l.
func (s *Service) EncryptPassword(l Location, password string) string {
	return s.Key.Encrypt(l, password)
}

// Forget deletes the records of a rule's items, in the transaction that deletes the rule.
// The images stay.
func Forget(tx *metadb.Tx, rule string) error {
	return replication.ForgetSource(tx, SourceName(rule))
}
