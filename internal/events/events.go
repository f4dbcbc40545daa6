// Package events records what happens to content, sends it up to the root, and delivers it to
// webhooks and hooks. Begin at [Service.Append], which records an event in the transaction of what
// it is about.
//
//   - pattern.go says which events a connected registry sends up, and a webhook gets.
//   - content.go makes events of changes of content, of syncs, and of pulls.
//   - forward.go passes events on from child to parent.
//   - dispatch.go queues events for webhooks; deliver.go delivers the queues in order, with retries.
//   - webhook.go is the delivery over HTTP, hook.go that to a local program.
package events

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/seal"
)

// The types of events.
const (
	Push      = "push"       // a tag or a manifest is here: a client pushed it, or a sync brought it
	Delete    = "delete"     // a tag, a manifest or a whole repository was deleted
	Complete  = "complete"   // a sync has completed an image, and it matches the parent
	Failed    = "failed"     // a sync could not complete an image
	FirstPull = "first_pull" // a client pulled the image here for the first time
	Dropped   = "dropped"    // events were lost, because too many waited
)

// Types returns every type of events.
func Types() []string { return []string{Push, Delete, Complete, Failed, FirstPull, Dropped} }

// keptEvents is how many events an instance keeps: those that wait for the parent or for a webhook,
// and those that it shows.
const keptEvents = 20_000

// droppedEvents is the counter of the events that the parent never got.
const droppedEvents = "events-dropped"

// Options configure a Service. DB is required.
type Options struct {
	DB *metadb.DB
	// Registry is the name of the connected registry that this instance is; "" is a root.
	Registry string
	// Notifications returns the patterns of the events that this connected registry sends up, as
	// its desired state has them. nil is none.
	Notifications func() []string
	// AuditShipped reports whether this connected registry sends its own audit log up. nil is no.
	AuditShipped func() bool
	// Source is the address of this instance for the sources of CloudEvents; "" leaves it out.
	Source string
	Key    *seal.Key        // encrypts the secrets of webhooks; nil in a connected registry
	Local  []Local          // subscribers of this instance's own events, in its settings
	Log    *slog.Logger     // nil discards
	Now    func() time.Time // nil is time.Now
}

// A Service records the events of one instance and delivers them. It is safe for concurrent use.
type Service struct {
	options Options
	db      *metadb.DB
	log     *slog.Logger
	now     func() time.Time
	keep    int64

	maxWaiting int // deliveries that may wait for a subscriber

	patterns compiled
	own      atomic.Pointer[[]Selection] // of the subscribers at this instance
	locals   []Selection                 // those of them that the settings have
	pulls    pullFilter

	appended retry.Signal // events were recorded
	changed  retry.Signal // webhooks or their queues changed

	mu      sync.Mutex
	running map[string]*subscriber
}

// New returns the service of an instance. It reads the webhooks, so that no event is missed before
// [Service.Run].
func New(ctx context.Context, o Options) (*Service, error) {
	s := &Service{
		options: o, db: o.DB, log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), now: o.Now, keep: keptEvents,
		running: map[string]*subscriber{}, maxWaiting: maxWaiting,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if o.Notifications == nil {
		s.options.Notifications = func() []string { return nil }
	}
	s.pulls.start()
	wanted, err := s.wanted(ctx)
	for _, l := range o.Local {
		if sub := wanted[l.Name]; sub != nil {
			s.locals = append(s.locals, sub.selection)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open events: %w", err)
	}
	s.setSelections(wanted)
	return s, nil
}

// Append records an event of this instance in tx, if the desired state says that the parent gets it,
// or if somebody here does. At, if it is zero, is now. The other fields than Type, Repository, Tag,
// Digest, MediaType, Size, Reason and Detail are ignored.
func (s *Service) Append(tx *metadb.Tx, e metadb.Event) error {
	forward, wanted := s.wants(e)
	if !wanted {
		return nil
	}
	e.ID, e.Origin, e.Registry, e.Forward = 0, "", s.options.Registry, forward
	if e.At.IsZero() {
		e.At = s.now()
	}
	_, err := s.add(tx, e)
	return err
}

// wants reports whether anybody gets an event of this instance, and whether the parent does.
func (s *Service) wants(e metadb.Event) (forward, wanted bool) {
	e.ID, e.Registry = 0, s.options.Registry
	forward = e.Registry != "" && s.patterns.of(s.options.Notifications()).Match(e)
	return forward, forward || slices.ContainsFunc(*s.own.Load(), func(one Selection) bool { return one.selects(e) })
}

// add records an event. If the oldest one had to go before the parent got it, an event says so.
func (s *Service) add(tx *metadb.Tx, e metadb.Event) (added bool, err error) {
	added, lost, err := tx.AddEvent(e, s.keep)
	if err == nil && lost > 0 {
		err = s.recordLoss(tx, lost)
	}
	tx.AfterCommit(s.appended.Notify)
	return added, err
}

// recordLoss counts lost events. One event has the sum: its detail is for people, its size for
// programs.
func (s *Service) recordLoss(tx *metadb.Tx, lost int64) error {
	total, err := tx.Count(droppedEvents, lost)
	if err != nil {
		return err
	}
	e := metadb.Event{
		Registry: s.options.Registry, At: s.now(), Type: Dropped, Size: total, Forward: true,
		Detail: fmt.Sprintf("%d events were dropped here until now, because more than %d waited for the parent", total,
			s.keep),
	}
	if replaced, err := tx.ReplaceEvent(e); err != nil || replaced {
		return err
	}
	_, more, err := tx.AddEvent(e, s.keep)
	if err == nil && more > 0 {
		_, err = tx.Count(droppedEvents, more) // the next loss says so
	}
	return err
}

// Lost returns how many events were dropped here before the parent got them.
func (s *Service) Lost(ctx context.Context) (int64, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (int64, error) { return tx.Counter(droppedEvents) })
}

// Appended returns a channel that is closed when events are next recorded.
func (s *Service) Appended() <-chan struct{} { return s.appended.Wait() }

// compiled are the compiled notifications, until others replace them.
type compiled struct {
	mu    sync.Mutex
	texts []string
	all   Patterns
}

func (c *compiled) of(texts []string) Patterns {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.Equal(c.texts, texts) {
		c.texts, c.all = texts, ParsePatterns(texts)
	}
	return c.all
}
