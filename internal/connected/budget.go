package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/replication"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
)

// errBudgetSpent is the cause with which a sync ends that has used up the
// site's byte budget.
var errBudgetSpent = errors.New("the byte budget is spent")

// spentEvery is how many bytes are spent, at most, before that is written
// down: what a loss of power forgets, the budget has twice.
const spentEvery = 8 << 20

// A spending is what came of layers in a period of the byte budget.
type spending struct {
	Since time.Time `json:"since"` // the period's begin
	Bytes int64     `json:"bytes"`
}

// within reports whether it belongs to a period: also where the budget was of
// days before and is of months now.
func (s spending) within(start, next time.Time) bool {
	return !s.Since.Before(start) && s.Since.Before(next)
}

// budget returns the site's byte budget. One that this program cannot read,
// which a newer parent may know, is none.
func (m memory) budget() schedule.Budget {
	b, err := schedule.ParseBudget(m.Self.ByteBudget)
	if err != nil {
		return schedule.Budget{}
	}
	return b
}

// urgency returns which repositories come first. Priorities that this program
// cannot read, which a newer parent may know, are none.
func (m memory) urgency() subscription.Priorities {
	p, err := subscription.ParsePriorities(m.Self.Priorities)
	if err != nil {
		return subscription.Priorities{}
	}
	return p
}

// order is the one in which a sync fetches; a frugal one fetches only what is
// urgent.
func (m memory) order(frugal bool) replication.Order {
	if len(m.Self.Priorities) == 0 && !frugal {
		return nil
	}
	p := m.urgency()
	return func(repository string) (rank int, wanted bool) {
		priority := p.Of(repository)
		return int(priority), !frugal || priority == subscription.Urgent
	}
}

// broke reports whether the byte budget of the period that now is in is
// spent, and when the next begins.
func (m memory) broke(now time.Time) (spent bool, next time.Time) {
	b := m.budget()
	start, next := b.Period(now)
	return b.Bytes > 0 && m.Spent.within(start, next) && m.Spent.Bytes >= b.Bytes, next
}

// spend counts n bytes of a layer that came, and stops the running sync once
// they were the last of the budget, unless it fetches only what is urgent.
func (a *Agent) spend(ctx context.Context, n int) {
	now := a.now()
	a.mu.Lock()
	if start, next := a.memory.budget().Period(now); !a.memory.Spent.within(start, next) {
		a.memory.Spent = spending{Since: start}
		a.unwritten = 0
	}
	a.memory.Spent.Bytes += int64(n)
	a.unwritten += int64(n)
	broke, _ := a.memory.broke(now)
	write := a.unwritten >= spentEvery
	if write {
		a.unwritten = 0
	}
	stop, frugal := a.running, a.frugal
	a.mu.Unlock()
	if broke && !frugal && stop != nil {
		stop(errBudgetSpent)
	}
	if write {
		a.remember(ctx, func(*memory) {})
	}
}
