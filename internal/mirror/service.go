package mirror

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

// maxRuns is how many rules, and how many imports, run at a time. Others wait
// for their turn.
const maxRuns = 4

// patience is how long a run may get nothing from its source before it makes
// room for others. It is owed then, and goes on from the same byte; see [retryState].
const patience = 10 * time.Minute

// glance is how often the rules and the clock are looked at: a clock that was
// set meanwhile then counts soon.
const glance = time.Minute

// Causes with which a run ends before it is done.
var (
	errWindowClosed = errors.New("the window closed")
	errChanged      = errors.New("the rule was changed")
	errNothingComes = errors.New("nothing came from the source for 10 minutes; the next try goes on from the same byte")
)

// A Dial opens a connection, as [net.Dialer.DialContext] does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Options are what a Service is made of. DB, Storage and Sealer are required.
type Options struct {
	DB          *metadb.DB
	Storage     *storage.Storage
	Sealer      *Sealer
	ChunkSize   int64
	Connections int              // of one run; 0 is 32
	Dial        Dial             // how to reach other registries; nil is the network
	Log         *slog.Logger     // nil discards
	Now         func() time.Time // nil is time.Now
}

// A Service runs the rules of one instance, and its imports. It is safe for
// concurrent use.
type Service struct {
	Options

	mu      sync.Mutex
	running map[string]*run        // by rule
	retries map[string]*retryState // by rule
	over    int64                  // runs that are
	hosts   *hostBackoff           // of the hosts that both ask
	imports []*job                 // oldest first
	open    bool                   // Run runs, and imports may begin
	woken   chan struct{}          // holds a wish to look at the rules again
	jobs    sync.WaitGroup
	turns   chan struct{}   // of imports
	life    context.Context // of imports; it ends with Run
	end     context.CancelFunc
}

// New returns a service whose rules run while its Run does.
func New(o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Service{Options: o, running: map[string]*run{}, retries: map[string]*retryState{}, hosts: &hostBackoff{now: o.Now, until: map[string]time.Time{}}, woken: make(chan struct{}, 1), turns: make(chan struct{}, maxRuns)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// A State is how a rule's run goes.
type State struct {
	Running   bool
	Progress  replication.Progress
	Trouble   string    // why it does not get on just now; "" is that it does
	NotBefore time.Time // a run that is owed is not tried again; zero while nothing is known of that

	BytesPerSecond int64 // over the last seconds
}

// NextRun is when the rule runs next; zero is never.
func (st State) NextRun(r metadb.MirrorRule, v Spec, now time.Time) time.Time {
	c, err := newClockwork(v)
	if err != nil {
		return time.Time{}
	}
	if st.Running {
		r.OwedAt = time.Time{} // to the run that goes on
	}
	return c.next(r, st.NotBefore, now)
}

// State returns how the rule's run goes, if one does.
func (s *Service) State(rule string) State {
	s.mu.Lock()
	r := s.running[rule]
	var notBefore time.Time
	if d := s.retries[rule]; d != nil {
		notBefore = d.notBefore
	}
	s.mu.Unlock()
	if r != nil {
		return r.state()
	}
	return State{NotBefore: notBefore}
}

// Changed says that a rule was written or deleted. A run of it that goes on
// begins again with what is decided now.
func (s *Service) Changed(rule string) {
	s.mu.Lock()
	r := s.running[rule]
	delete(s.retries, rule)
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
// once all of them have stopped. What they have then is kept, to the byte. It
// may be called once.
func (s *Service) Run(ctx context.Context) error {
	if err := s.forgetImports(ctx); err != nil && ctx.Err() == nil {
		s.Log.Error("imports of an earlier process are not forgotten", "err", err)
	}
	s.admit(true)
	for ctx.Err() == nil {
		pause, err := s.begin(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("mirror rules cannot be read", "err", err)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-s.woken:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	s.admit(false)
	s.end()
	s.jobs.Wait()
	return nil
}

// forgetImports forgets what imports wanted that ended with their process: it
// would keep images from going that rules brought. Their leases stay until they
// end, as those of an import that failed do, so that the same one goes on from
// the same byte.
func (s *Service) forgetImports(ctx context.Context) error {
	return s.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.ForgetSources(importSource) })
}

// admit lets imports begin, or not.
func (s *Service) admit(open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = open
}

// begin starts the rules that are due and returns how long none will be.
func (s *Service) begin(ctx context.Context) (time.Duration, error) {
	seen := s.runsOver()
	rules, err := s.rules(ctx)
	if err != nil {
		return glance, err
	}
	now, pause := s.Now(), glance
	for _, rule := range rules {
		v, err := SpecOf(rule)
		if err != nil {
			s.Log.Error("mirror rule cannot be read", "rule", rule.Name, "err", err)
			continue
		}
		c, err := newClockwork(v)
		if err != nil {
			s.Log.Error("mirror rule's schedule cannot be read", "rule", rule.Name, "err", err)
			continue
		}
		if t, due := c.turn(rule, now); due {
			if wait := s.retryIn(rule.Name, t, now); wait > 0 {
				pause = min(pause, wait)
			} else {
				s.start(ctx, rule, v, t, seen)
			}
		}
		if next := c.Next(now); !next.IsZero() {
			pause = min(pause, max(next.Sub(now), time.Millisecond))
		}
	}
	return pause, nil
}

func (s *Service) rules(ctx context.Context) (all []metadb.MirrorRule, err error) {
	err = s.DB.View(ctx, func(tx *metadb.Tx) error {
		all, err = tx.MirrorRules()
		return err
	})
	return all, err
}

// runsOver counts the runs that are over.
func (s *Service) runsOver() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

// start lets a rule run, unless it does or too many others do, or a run ended
// since seen were over: it may have been this rule's, which then was read too
// early. The rules are looked at again after every run.
func (s *Service) start(ctx context.Context, rule metadb.MirrorRule, v Spec, t turn, seen int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[rule.Name] != nil || len(s.running) >= maxRuns || s.over != seen {
		return
	}
	ctx, cancel := context.WithCancelCause(ctx)
	if !t.again {
		delete(s.retries, rule.Name)
	}
	rule.OwedAt = t.opened
	r := newRun(s, rule, v, cancel)
	s.running[rule.Name] = r
	s.jobs.Go(func() {
		defer cancel(nil)
		if !t.until.IsZero() {
			closing := time.AfterFunc(t.until.Sub(s.Now()), func() { cancel(errWindowClosed) })
			defer closing.Stop()
		}
		if !r.all(ctx) { // it would be due again at once, and again
			retry.Sleep(ctx, glance, nil)
		}
		s.mu.Lock()
		delete(s.running, rule.Name)
		s.over++
		s.mu.Unlock()
		s.Wake()
	})
}

// Seal returns a password for the registry at l as it may be stored.
func (s *Service) Seal(l Location, password string) string { return s.Sealer.Seal(l, password) }

// Forget removes what is known of a rule's items, within the transaction that
// deletes the rule. The images that it brought stay.
func Forget(tx *metadb.Tx, rule string) error {
	return replication.ForgetSource(tx, SourceName(rule))
}
