package metadb

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// How an outage is found and ended.
const (
	// patience is how long a transaction waits for PostgreSQL to come back before it fails, so that
	// a restart of the server is not seen by clients.
	patience = 3 * time.Second
	// probeTimeout is how long PostgreSQL may take to answer a probe.
	probeTimeout = 2 * time.Second
	// probeFirst and probeLast are the shortest and the longest pause between two probes.
	probeFirst, probeLast = 50 * time.Millisecond, 250 * time.Millisecond
)

// An outage is the state of a database that may not answer. Transactions say when they suspect it
// ([outage.suspect]); a probe, which opens a connection of its own, decides. It writes one line to
// the log at the beginning of an outage and one at its end. During an outage, transactions fail at
// once, so that requests neither wait nor press on the server when it comes back.
type outage struct {
	log   *slog.Logger
	probe func(context.Context) error
	late  []func() // are called after a commit whose answer was lost; see [DB.OnUncertain]

	stop context.CancelFunc // ends the probing
	ctx  context.Context
	done sync.WaitGroup

	lostAt atomic.Int64 // when a connection was lost last, in nanoseconds

	mu        sync.Mutex
	closed    bool
	probing   bool
	suspected time.Time     // when the probing began
	since     time.Time     // the beginning of the outage; zero is none
	cause     error         // of the outage
	over      chan struct{} // closed at the end of the outage
}

func newOutage(log *slog.Logger, probe func(context.Context) error) *outage {
	o := &outage{log: log, probe: probe}
	o.ctx, o.stop = context.WithCancel(context.Background())
	return o
}

// close ends the probing.
func (o *outage) close() {
	o.stop()
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.done.Wait()
}

// connectionLost is [outage.suspect] after a connection was cut, so that others may be cut, too.
func (o *outage) connectionLost() {
	o.lostAt.Store(time.Now().UnixNano())
	o.suspect()
}

// suspect probes the database, unless that is going on.
func (o *outage) suspect() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.probing && !o.closed {
		o.probing, o.suspected = true, time.Now()
		o.done.Go(o.run)
	}
}

// run probes until the database answers.
func (o *outage) run() {
	for pause := probeFirst; ; pause = min(2*pause, probeLast) {
		ctx, cancel := context.WithTimeout(o.ctx, probeTimeout)
		err := o.probe(ctx)
		cancel()
		if o.ctx.Err() != nil {
			return
		}
		if err == nil {
			o.end()
			return
		}
		o.begin(err)
		select {
		case <-time.After(pause):
		case <-o.ctx.Done():
			return
		}
	}
}

// settle finds out what became of a transaction, however long that takes.
func (o *outage) settle(fateOf func(context.Context) fate) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return
	}
	o.done.Go(func() {
		for {
			select {
			case <-time.After(probeLast):
			case <-o.ctx.Done():
				return
			}
			switch fateOf(o.ctx) {
			case aborted:
				return
			case committed, forgotten:
				for _, fn := range o.late {
					fn()
				}
				return
			}
		}
	})
}

// begin begins an outage, unless there is one of the same kind.
func (o *outage) begin(cause error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	known, crowded := !o.since.IsZero(), isCrowded(cause)
	if known && crowded == isCrowded(o.cause) {
		o.cause = cause
		return
	}
	o.cause, o.since = cause, o.suspected
	if known {
		o.since = time.Now()
	} else {
		o.over = make(chan struct{})
	}
	if crowded {
		o.log.Warn("the database accepts no more connections; those that are open serve all requests",
			"err", firstLine(cause), "hint", hintCrowded)
		return
	}
	o.log.Error("the database does not answer; cached content is served, and other requests get 503 until it does",
		"err", firstLine(cause))
}

const hintCrowded = "raise max_connections of the server, or lower --database-readers"

// end ends the outage, if there is one.
func (o *outage) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.probing = false
	if o.since.IsZero() {
		return
	}
	said := "the database answers again"
	if isCrowded(o.cause) {
		said = "the database accepts connections again"
	}
	o.log.Info(said, "after", time.Since(o.since).Round(time.Millisecond))
	close(o.over)
	o.since, o.over, o.cause = time.Time{}, nil, nil
}

// wait returns nil if there is no outage, or if it ends soon.
func (o *outage) wait(ctx context.Context) error {
	o.mu.Lock()
	since, over, cause := o.since, o.over, o.cause
	o.mu.Unlock()
	if since.IsZero() || isCrowded(cause) {
		return nil
	}
	left := patience - time.Since(since)
	if left <= 0 {
		return unavailable(cause)
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-over:
		return nil
	case <-timer.C:
		return unavailable(cause)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// isCrowded reports whether the server accepts no more connections. Those that are open work.
func isCrowded(err error) bool {
	p, ok := errors.AsType[*pgconn.PgError](err)
	return ok && p.Code == "53300" // too_many_connections
}
