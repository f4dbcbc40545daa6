package connected

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"ferry/internal/wire"
)

// maxSkew is by how much the clocks of a registry and its parent may differ
// before that is reported: a smaller difference moves no window that matters, and no
// link delays an answer for so long.
const maxSkew = 5 * time.Minute

// A clock compares the clock of this machine with the parent's. It is safe for
// concurrent use.
type clock struct {
	log *slog.Logger

	mu    sync.Mutex
	ahead time.Duration // by how much this one is ahead of the parent's; 0 if that is too little to matter
	since time.Time     // when that was noticed
}

// compare notes what both clocks say at the same moment; parent is zero if its
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
	case wrong && (ahead-c.ahead).Abs() > time.Minute: // else it is said already
		c.ahead = ahead
		if c.since.IsZero() {
			c.since = now
		}
		c.log.Warn("clock differs from the parent's", "ahead", ahead)
	}
}

// detail is what a report says of the clock; nil if both agree.
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
		Description: fmt.Sprintf("this machine's clock is %s %s its parent's: sync windows, expiry dates and the times of its "+
			"reports are off by as much; set the clock that is wrong", c.ahead.Abs(), direction),
	}
}
