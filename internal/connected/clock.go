package connected

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ferry/internal/wire"
)

// maxSkew is the largest difference between the clocks of a registry and its
// parent that is not reported. It does not matter for windows, and it is more
// than a link delays an answer.
const maxSkew = 5 * time.Minute

// A clock compares the clock of this machine with the parent's. It is safe for
// concurrent use.
type clock struct {
	log *slog.Logger

	mu    sync.Mutex
	ahead time.Duration // how far this clock is ahead of the parent's; 0 if it is at most maxSkew
	since time.Time     // when the difference was noticed
}

// compare compares the times of both clocks at one moment; parent is zero if its
// clock is not known.
func (c *clock) compare(now, parent time.Time) {
	if parent.IsZero() {
		return
	}
	ahead := now.Sub(parent).Round(time.Minute)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch wrong := ahead.Abs() > maxSkew; {
	case !wrong && c.ahead != 0:
		c.log.Info("clock agrees with the parent's again")
		c.ahead, c.since = 0, time.Time{}
	case wrong && (ahead-c.ahead).Abs() > time.Minute: // else it was logged already
		c.ahead = ahead
		if c.since.IsZero() {
			c.since = now
		}
		c.log.Warn("clock differs from the parent's", "ahead", ahead)
	}
}

// ClockSkew returns how far the clock of this machine is ahead of the parent's; ok is false until
// the parent has answered.
func (a *Agent) ClockSkew() (ahead time.Duration, ok bool) {
	parent := a.parent.ParentTime()
	return a.now().Sub(parent), !parent.IsZero()
}

// Quarantined returns how many blobs are not fetched for a while, because the parent sent wrong
// content in several syncs.
func (a *Agent) Quarantined() int { return a.engine.Quarantined() }

// detail returns the difference for a report; nil if both clocks agree.
func (c *clock) detail() *wire.StatusDetail {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ahead == 0 {
		return nil
	}
	direction := "ahead of"
	if c.ahead < 0 {
		direction = "behind"
	}
	return &wire.StatusDetail{
		Type: "Clock", Code: "ClockSkew", Timestamp: c.since.UTC(),
		Description: fmt.Sprintf("this machine's clock is %s %s its parent's: sync windows, expiry dates and the "+
			"times of its reports are wrong by as much; set the clock that is wrong", c.ahead.Abs(), direction),
	}
}
