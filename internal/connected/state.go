package connected

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// stateSetting is the name under which the agent's state is kept.
const stateSetting = "connected-registry"

// A state is what an agent must know after a restart with the link down.
type state struct {
	Activated      bool                   `json:"activated"`
	ActivatedAt    time.Time              `json:"activatedAt,omitzero"`
	DesiredVersion string                 `json:"desiredVersion,omitempty"`
	Self           wire.ConnectedRegistry `json:"self"`

	Paused  bool      `json:"paused,omitempty"` // no sync runs until somebody resumes them
	AskedAt time.Time `json:"askedAt,omitzero"` // when somebody last asked for a sync: a window opened then

	Spent spending `json:"spent,omitzero"`

	Resync int64 `json:"resync,omitempty"` // the last wish for a listing of every repository that was heeded
	Verify int64 `json:"verify,omitempty"` // the last wish for a read of all content that was heeded

	// Watermarks are, for each ancestor's feed, the sequence number up to which
	// everything is here, apart from Lacking: those below this registry can rely on it.
	Watermarks map[string]int64     `json:"whole,omitempty"`
	Lacking    []wire.OutOfSyncItem `json:"lacking,omitempty"` // what fails for good

	SyncStart   time.Time `json:"syncStart,omitzero"`
	SyncEnd     time.Time `json:"syncEnd,omitzero"`
	SyncSuccess time.Time `json:"syncSuccess,omitzero"`
	SyncTrigger string    `json:"syncTrigger,omitempty"`
	SyncState   string    `json:"syncState,omitempty"`

	Heard   time.Time              `json:"heard,omitzero"`    // when the parent last answered
	Details []wire.StatusDetail    `json:"details,omitempty"` // what was wrong when a sync last came to its end
	Trouble *wire.StatusDetail     `json:"trouble,omitempty"` // why the parent refuses this registry; nil if it does not
	Left    []replication.InFlight `json:"left,omitempty"`    // what the sync that runs, or was stopped, has begun
}

// load reads the state that an earlier run saved.
func (a *Agent) load(ctx context.Context) error {
	text, err := metadb.Read(ctx, a.options.DB, func(tx *metadb.Tx) (string, error) {
		return tx.Setting(stateSetting)
	})
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &a.state)
	}
	if err != nil {
		return fmt.Errorf("start agent: read its state: %w", err)
	}
	return nil
}

// current returns the state as it is now.
func (a *Agent) current() state {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.state
}

// update changes the state, and saves it.
func (a *Agent) update(ctx context.Context, change func(*state)) {
	a.mu.Lock()
	change(&a.state)
	a.mu.Unlock()
	a.save(ctx)
}

// save writes the state. If the disk does not take it, the agent goes on: it
// learns again what it forgets with a restart.
func (a *Agent) save(ctx context.Context) {
	text, err := json.Marshal(a.current())
	if err == nil {
		err = a.options.DB.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
			return tx.SetSetting(stateSetting, string(text))
		})
	}
	if err != nil {
		a.log.Warn("agent's state is not saved", "err", err)
	}
}

// priorities returns which repositories come first. Priorities that this program
// cannot read, which a newer parent may know, are none.
func (s state) priorities() subscription.Priorities {
	p, _ := subscription.ParsePriorities(s.Self.Priorities)
	return p
}

// order is the one in which a sync fetches; urgentOnly leaves out everything
// that is not urgent.
func (s state) order(urgentOnly bool) replication.Order {
	if len(s.Self.Priorities) == 0 && !urgentOnly {
		return nil
	}
	p := s.priorities()
	return func(repository string) (rank int, wanted bool) {
		priority := p.Of(repository)
		return int(priority), !urgentOnly || priority == subscription.Urgent
	}
}

// errBudgetSpent is the cause with which a sync ends that has used up the byte
// budget.
var errBudgetSpent = errors.New("the byte budget is spent")

// saveSpentEvery is how many bytes are spent, at most, before that is saved:
// after a loss of power the budget allows as much once more.
const saveSpentEvery = 8 << 20

// A spending is how many bytes of layers came in a period of the byte budget.
type spending struct {
	Since time.Time `json:"since"` // the period's begin
	Bytes int64     `json:"bytes"`
}

// firstYear is when the program was written: a clock before it is that of a machine
// without a battery, which has not found the time yet.
const firstYear = 2025

// within reports whether it belongs to a period: also if the budget was of
// days before and is of months now. A clock that is far back begins no period: each
// start of the machine would allow the budget once more.
func (s spending) within(start, next time.Time) bool {
	return !s.Since.Before(start) && (s.Since.Before(next) || next.Year() < firstYear)
}

// budget returns the byte budget. One that this program cannot read, which a
// newer parent may know, is none.
func (s state) budget() schedule.Budget {
	b, _ := schedule.ParseBudget(s.Self.ByteBudget)
	return b
}

// budgetSpent reports whether the byte budget of the period that now is in is
// spent, and when the next period begins.
func (s state) budgetSpent(now time.Time) (spent bool, next time.Time) {
	b := s.budget()
	start, next := b.Period(now)
	return b.Bytes > 0 && s.Spent.within(start, next) && s.Spent.Bytes >= b.Bytes, next
}

// spend counts n bytes of a layer that came, and stops the running sync once
// they were the last of the budget, unless it fetches only what is urgent.
func (a *Agent) spend(ctx context.Context, n int) {
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
	if spent, _ := a.state.budgetSpent(now); spent && !a.urgentOnly && a.stopSync != nil {
		a.stopSync(errBudgetSpent)
	}
	a.mu.Unlock()
	if due {
		a.save(ctx)
	}
}
