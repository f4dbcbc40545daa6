package replication

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// How a crew finds out how many connections a link wants. One TCP connection
// over a satellite with a little loss gets a fraction of the link's rate,
// whatever that is, and many together get all of it; where one is enough,
// more of them only share it (Mathis et al., The macroscopic behavior of the
// TCP congestion avoidance algorithm, 1997).
const (
	// firstHands is how many connections a Sync begins with: too many cost
	// little until that is found out, too few cost most of a lossy link.
	firstHands = 16
	// leastHands is how many there are at least.
	leastHands = 2
	// settling is how long a change in their number takes to show: new
	// connections are opened, and find their own rate.
	settling = 2 * time.Second
	// watching is how long the rate is measured after that.
	watching = 2 * time.Second
	// resting is how long a number that was found good is kept before others
	// are tried, for the link may have changed. It doubles, up to so many
	// times that, while nothing else does better.
	resting   = time.Minute
	mostRests = 16
	// worth is how much of the added connections' share the rate must gain
	// for them to stay, of 1.
	worth = 0.3
	// spare is how much of the rate may be lost for fewer connections to do:
	// less than the share of those that left, more than rates waver.
	spare = 0.1
	// leaving is how long those who are too many may take to end what they
	// fetch; to break it off would waste what is under way.
	leaving = mostBusy + 10*time.Second
)

// A crew is the connections of a run: as many as make the link faster.
type crew struct {
	limit    int
	log      *slog.Logger
	received func() int64 // bytes of content so far
	unrest   func() int64 // counts the link's failures and recoveries
	starved  func() bool  // whether there was less to fetch than hands, since it was last asked

	stride stride

	mu     sync.Mutex
	want   int // how many there should be
	hands  int // how many there are
	done   bool
	change chan struct{} // closed when want or done changes
}

func newCrew(limit int, log *slog.Logger) *crew {
	return &crew{limit: limit, log: log, want: min(firstHands, limit), change: make(chan struct{})}
}

// hire starts as many hands as there should be, until the work is done. It
// returns once it starts no more.
func (c *crew) hire(ctx context.Context, start func()) {
	for {
		c.mu.Lock()
		for !c.done && c.hands < c.want {
			c.hands++
			start()
		}
		done, change := c.done, c.change
		c.mu.Unlock()
		if done {
			return
		}
		select {
		case <-change:
		case <-ctx.Done():
			return
		}
	}
}

// leave reports whether a hand that has nothing in it is one too many; it
// then has to go.
func (c *crew) leave() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.hands <= c.want {
		return false
	}
	c.hands--
	return true
}

// size is how many hands there should be.
func (c *crew) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.want
}

func (c *crew) set(want int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.want = want; !c.done {
		close(c.change)
		c.change = make(chan struct{})
	}
}

// finish ends the crew: all the work is handed out.
func (c *crew) finish() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.done {
		c.done = true
		close(c.change)
	}
}

// adapt changes the number of hands to what the link wants, until the work is
// done or ctx ends: more while more comes of it, fewer where that costs
// nothing. What is measured while the link is down, or while there is not
// enough to do, says nothing.
func (c *crew) adapt(ctx context.Context) {
	rests := time.Duration(1)
	c.rest(ctx, resting)
	for up := false; c.working(ctx); up = !up {
		base, ok := c.measure(ctx)
		if !ok {
			up = !up // the same again
			continue
		}
		n := c.size()
		for better := true; better; {
			base, better = c.try(ctx, up, base)
		}
		if rests = min(2*rests, mostRests); c.size() != n {
			rests = 1
		}
		c.rest(ctx, rests*resting)
	}
}

// try tries more hands, or fewer, and keeps them where the rate says so. It
// returns the rate of the number that is kept.
func (c *crew) try(ctx context.Context, up bool, base float64) (rate float64, better bool) {
	n := c.size()
	tried, enough := n-max(1, n/4), base*(1-spare)
	if up {
		tried = min(2*n, c.limit)
		enough = base * (1 + worth*float64(tried-n)/float64(n))
	}
	if tried = max(tried, min(leastHands, c.limit)); tried == n {
		return base, false
	}
	c.set(tried)
	if !c.settled(ctx) {
		c.set(n)
		return base, false
	}
	rate, ok := c.measure(ctx)
	better = ok && rate >= enough
	c.log.Debug("other number of connections tried", "connections", n, "rate", int64(base), "tried", tried, "got", int64(rate), "better", better)
	if better {
		return rate, true
	}
	c.set(n)
	return base, false
}

// settled waits until there are no more hands than there should be, and
// reports whether that came about in time.
func (c *crew) settled(ctx context.Context) bool {
	for waited := time.Duration(0); waited < leaving; waited += settling / 4 {
		c.mu.Lock()
		many := c.hands > c.want
		c.mu.Unlock()
		if !many {
			return true
		}
		if !c.rest(ctx, settling/4) {
			break
		}
	}
	return false
}

// working reports whether there may be more to do.
func (c *crew) working(ctx context.Context) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.done && ctx.Err() == nil
}

// measure returns the rate, in bytes a second, that the crew has once it has
// settled, and whether that says anything.
func (c *crew) measure(ctx context.Context) (rate float64, ok bool) {
	if !c.rest(ctx, settling) {
		return 0, false
	}
	c.starved()
	start, before, unrest := time.Now(), c.received(), c.unrest()
	if !c.rest(ctx, watching) {
		return 0, false
	}
	if c.starved() || c.unrest() != unrest {
		return 0, false
	}
	rate = float64(c.received()-before) / time.Since(start).Seconds()
	return rate, rate > 0
}

// rest waits, and reports whether the work goes on.
func (c *crew) rest(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		c.mu.Lock()
		done, change := c.done, c.change
		c.mu.Unlock()
		if done {
			return false
		}
		select {
		case <-timer.C:
			return true
		case <-change:
		case <-ctx.Done():
			return false
		}
	}
}
