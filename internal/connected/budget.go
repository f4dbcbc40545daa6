package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/schedule"
)

// errBudgetSpent is the cause with which a sync ends when it has used up the byte
// budget.
var errBudgetSpent = errors.New("the byte budget is spent")

// saveSpentEvery is how many bytes are spent, at most, before their number is
// saved. After a loss of power the budget allows that many once more.
const saveSpentEvery = 8 << 20

// A spending is how many bytes of layers came in a period of the byte budget.
type spending struct {
	Since time.Time `json:"since"` // when the period began
	Bytes int64     `json:"bytes"`
}

// firstYear is the year in which this program was written. An earlier clock is
// not set yet: its machine has no battery.
const firstYear = 2025

// within reports whether s belongs to a period, even if the budget was of days
// and is of months now. A clock that is not set yet begins no period, because
// each start of the machine would then allow the budget once more.
func (s spending) within(start, next time.Time) bool {
	return !s.Since.Before(start) && (s.Since.Before(next) || next.Year() < firstYear)
}

// budget returns the byte budget. It returns none if this program cannot read it,
// because a newer parent may know more forms.
func (s state) budget() schedule.Budget {
	b, _ := schedule.ParseBudget(s.Self.ByteBudget)
	return b
}

// budgetSpent reports whether the byte budget of the current period is spent, and
// when the next period begins.
func (s state) budgetSpent(now time.Time) (spent bool, next time.Time) {
	b := s.budget()
	start, next := b.Period(now)
	return b.Bytes > 0 && s.Spent.within(start, next) && s.Spent.Bytes >= b.Bytes, next
}

// budgetLeft returns how many bytes of the byte budget are left in this period; nil is no budget.
func (s state) budgetLeft(now time.Time) *int64 {
	b := s.budget()
	if b.Bytes == 0 {
		return nil
	}
	left := b.Bytes
	if s.Spent.within(b.Period(now)) {
		left = max(left-s.Spent.Bytes, 0)
	}
	return &left
}

// spendBudget counts n bytes of a layer that came, or was sent. If the budget is spent then, it stops
// the running sync and the sending of changes, unless these are for urgent repositories only.
func (a *Agent) spendBudget(ctx context.Context, n int) {
	now := a.now()
	a.mu.Lock()
	if start, next := a.state.budget().Period(now); !a.state.Spent.within(start, next) {
		a.state.Spent, a.unsaved = spending{Since: start}, 0
	}
	a.state.Spent.Bytes += int64(n)
	a.unsaved += int64(n)
	due := a.unsaved >= saveSpentEvery
	if due {
		a.unsaved = 0
	}
	spent, _ := a.state.budgetSpent(now)
	if spent && !a.urgentOnly && a.stopSync != nil {
		a.stopSync(errBudgetSpent)
	}
	if spent && !a.sendsUrgentOnly && a.stopSend != nil {
		a.stopSend(errBudgetSpent)
	}
	a.mu.Unlock()
	if due {
		a.save(ctx)
	}
}
