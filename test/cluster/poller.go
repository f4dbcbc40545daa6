package cluster

import (
	"context"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// A Poller polls as a connected registry does, one poll after the other, and knows which tags it was told of.
// It fetches nothing.
type Poller struct {
	name   string
	client *gateway.Client
	place  wire.PollRequest // of the next poll
	since  int64            // the cursor of the last answer without more
	tags   map[string]map[string]digest.Digest

	polls, checks atomic.Int64
	longest       atomic.Int64 // duration of a poll, in nanoseconds
}

// pollSeconds is how long a poll of a [Poller] is held.
const pollSeconds = 1

// NewPoller returns the poller of a connection string, which no other instance may use.
func NewPoller(connectionString string) (*Poller, error) {
	c, err := wire.ParseConnectionString(connectionString)
	if err != nil {
		return nil, err
	}
	return &Poller{name: c.Name, client: gateway.NewClient(c, nil), tags: map[string]map[string]digest.Digest{}}, nil
}

// String says how much was done.
func (p *Poller) String() string {
	return fmt.Sprintf("%d polls of %s, %d compared, the longest took %s", p.polls.Load(), p.name, p.checks.Load(),
		time.Duration(p.longest.Load()).Round(time.Millisecond))
}

// activate binds the poller to its connected registry.
func (p *Poller) activate(ctx context.Context) error {
	id := "instance-of-" + p.name
	if _, err := p.client.Activate(ctx, wire.ActivateRequest{InstanceID: id}); err != nil {
		return err
	}
	p.place = wire.PollRequest{InstanceID: id, Locks: wire.LocksKnown, WaitSeconds: pollSeconds}
	return nil
}

// poll polls once, and records the answer. complete says that the poller now knows everything.
func (p *Poller) poll(ctx context.Context) (complete bool, err error) {
	begun := time.Now()
	a, err := p.client.Poll(ctx, p.place)
	p.longest.Store(max(p.longest.Load(), int64(time.Since(begun))))
	if err != nil {
		return false, err
	}
	p.polls.Add(1)
	if a.Restart {
		p.place.Pass = a.Head
		clear(p.tags)
	}
	for _, l := range a.Listings {
		if l.More || l.After != "" {
			return false, fmt.Errorf("the listing of %s has pages", l.Repository)
		}
		p.record(l)
	}
	if a.Desired != nil {
		p.place.DesiredVersion = a.Desired.Version
	}
	p.place.Feed, p.place.Subscription, p.place.Cursor = a.Feed, a.Subscription, a.Cursor
	if !a.More {
		p.place.Pass, p.since = 0, a.Cursor
	}
	p.place.Since = new(p.since)
	return !a.More, nil
}

// record records the tags of a listing.
func (p *Poller) record(l wire.Listing) {
	tags := p.tags[l.Repository]
	if tags == nil || !l.Short {
		tags = map[string]digest.Digest{}
		p.tags[l.Repository] = tags
	}
	for _, name := range l.Gone {
		delete(tags, name)
	}
	for _, item := range l.Items {
		if item.Tag != "" {
			tags[item.Tag] = item.Digest
		}
	}
}

// A known is what was acknowledged of a repository.
type known struct {
	tags    map[string]digest.Digest
	version int // is another one after each change; 0 is not certain
}

// known returns what is known of each repository while nothing changes in it.
func (l *Load) known() map[string]known {
	all := map[string]known{}
	for _, r := range l.repos {
		r.mu.RLock()
		k := known{maps.Clone(r.tags), r.version}
		if r.doubt.digest != "" {
			k.version = 0
		}
		all[r.name] = k
		r.mu.RUnlock()
	}
	return all
}

// Poll makes a poller poll until stop ends: after each poll it must know everything that was acknowledged
// before.
func (l *Load) Poll(ctx, stop context.Context, p *Poller) error {
	if err := l.retry(ctx, p.activate); err != nil {
		return fmt.Errorf("activate %s: %w", p.name, err)
	}
	for stop.Err() == nil && ctx.Err() == nil {
		var before map[string]known
		var complete bool
		err := l.retry(ctx, func(ctx context.Context) (err error) {
			before = l.known()
			complete, err = p.poll(ctx)
			return err
		})
		if err != nil {
			return fmt.Errorf("poll of %s: %w", p.name, err)
		}
		if !complete {
			continue
		}
		for name, now := range l.known() {
			was := before[name]
			if now.version == 0 || now.version != was.version {
				continue
			}
			p.checks.Add(1)
			if !maps.Equal(p.tags[name], now.tags) {
				return fmt.Errorf("a poll of %s says that %s has %v; %v was acknowledged", p.name, name, p.tags[name],
					now.tags)
			}
		}
		_ = sleep(ctx, pause)
	}
	return nil
}
