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

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// maxRuns is how many rules, and how many imports, run at a time. Others wait.
// One that waits for its source does not count.
const maxRuns = 4

// patience is for how long nothing may come from the source of a run before
// that makes room for others. It is retried, and continues from the same byte;
// see [retryState].
const patience = 10 * time.Minute

// glance is how often the rules and the clock are looked at, so that a clock
// that was set meanwhile counts soon.
const glance = time.Minute

// Causes with which a run ends before it is done.
var (
	errWindowClosed = errors.New("the window closed")
	errChanged      = errors.New("the rule was changed")
	errNothingComes = errors.New("nothing came from the source for 10 minutes; the next try goes on from the same byte")
)

// A Dial opens a connection, as [net.Dialer.DialContext] does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Options are what a Service is made of. DB, Storage and Key are required.
type Options struct {
	DB          *metadb.DB
	Storage     *storage.Storage
	Key         *Key
	ChunkSize   int64
	Connections int              // of one run; 0 is the engine's default
	Dial        Dial             // how to reach other registries; nil is the network
	Log         *slog.Logger     // nil discards
	Now         func() time.Time // nil is time.Now
}

// A Service runs the rules of one instance, and its imports. It is safe for
// concurrent use.
type Service struct {
	Options
	hosts       *hostBackoff
	woken       chan struct{} // holds a request to look at the rules
	ruleSlots   slots
	importSlots slots
	jobs        sync.WaitGroup

	mu      sync.Mutex
	running map[string]*run        // by rule
	retries map[string]*retryState // by rule
	doubts  map[string]doubt       // by rule
	imports []*job                 // oldest first
	life    context.Context        // of imports: Run's; nil unless that runs
}

// New returns a service whose rules run while its Run does.
func New(o Options) *Service {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{
		Options: o, hosts: &hostBackoff{now: o.Now, until: map[hostRequests]time.Time{}},
		woken: make(chan struct{}, 1), ruleSlots: make(slots, maxRuns), importSlots: make(slots, maxRuns),
		running: map[string]*run{}, retries: map[string]*retryState{}, doubts: map[string]doubt{},
	}
}

// A RunStatus says how a rule's run goes.
type RunStatus struct {
	Running   bool
	Progress  replication.Progress
	Problem   string    // why nothing comes just now; "" if all is well
	NotBefore time.Time // when a failed run is retried at the earliest; zero is at once

	BytesPerSecond int64 // over the last seconds
}

// Status returns how the rule's run goes.
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

// Changed says that a rule was written or deleted. Its run, if there is one,
// begins again with the new rule.
func (s *Service) Changed(rule string) {
	s.mu.Lock()
	r := s.running[rule]
	delete(s.retries, rule)
	delete(s.doubts, rule)
	s.mu.Unlock()
	if r != nil {
		r.cancel(errChanged)
	}
	s.Wake()
}

// Wake makes the service look at the rules at once.
func (s *Service) Wake() {
	select {
	case s.woken <- struct{}{}:
	default: // it will look anyway
	}
}

// Run runs rules when they are due, and imports, until ctx ends, and returns
// once all of them have stopped. They keep what they have, to the byte. It may
// be called once.
func (s *Service) Run(ctx context.Context) error {
	// What imports of an earlier process wanted would keep images that rules must
	// remove. Their leases stay until they expire, as those of an import that
	// failed do, so that the same import continues from the same byte.
	err := s.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.ForgetSources(importSource) })
	if err != nil && ctx.Err() == nil {
		s.Log.Error("imports of an earlier process are not forgotten", "err", err)
	}
	s.mu.Lock()
	s.life = ctx
	s.mu.Unlock()
	for ctx.Err() == nil {
		pause, err := s.startDue(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("mirror rules cannot be read", "err", err)
		}
		retry.Sleep(ctx, pause, s.woken)
	}
	s.mu.Lock()
	s.life = nil // no import begins from here on
	s.mu.Unlock()
	s.jobs.Wait()
	return nil
}

// startDue starts the rules that are due, and returns for how long none will be.
func (s *Service) startDue(ctx context.Context) (time.Duration, error) {
	// A run records its result before it leaves this map, so of a rule that is not
	// in it, the row that is read next is up to date.
	s.mu.Lock()
	running := maps.Clone(s.running)
	s.mu.Unlock()
	rules, err := metadb.Read(ctx, s.DB, (*metadb.Tx).MirrorRules)
	if err != nil {
		return glance, err
	}
	now, pause := s.Now(), glance
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
			r.lookAgain(d.since)
		}
		if next := when.Next(now); !next.IsZero() {
			pause = min(pause, max(next.Sub(now), time.Millisecond))
		}
	}
	return pause, nil
}

// start starts the run of a rule, unless it is too early for its retry, or too
// many others run. It returns for how long to wait before the next look: every
// run wakes the service when it leaves its slot.
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
	if !s.ruleSlots.tryTake() {
		return glance
	}
	ctx, cancel := context.WithCancelCause(ctx)
	rule.OwedAt = d.since
	r := newRun(s, rule, v, cancel)
	s.running[rule.Name] = r
	s.jobs.Go(func() {
		defer cancel(nil)
		if !d.until.IsZero() {
			closing := time.AfterFunc(d.until.Sub(s.Now()), func() { cancel(errWindowClosed) })
			defer closing.Stop()
		}
		if !r.all(ctx) { // it would be due again at once, and again
			retry.Sleep(ctx, glance, nil)
		}
		r.leave()
		s.mu.Lock()
		delete(s.running, rule.Name)
		s.mu.Unlock()
		s.Wake()
	})
	return glance
}

// EncryptPassword returns a password for the registry at l as it may be stored.
func (s *Service) EncryptPassword(l Location, password string) string {
	return s.Key.Encrypt(l, password)
}

// Forget removes what is known of a rule's items, within the transaction that
// deletes the rule. The images that it brought stay.
func Forget(tx *metadb.Tx, rule string) error {
	return replication.ForgetSource(tx, SourceName(rule))
}
