package connected

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// stateSetting is the name under which the agent's state is kept.
const stateSetting = "connected-registry"

// A state is everything that an agent must know after a restart with the link
// down.
type state struct {
	Activated   bool      `json:"activated"`
	ActivatedAt time.Time `json:"activatedAt,omitzero"`
	// DesiredVersion is of the applied desired state. Its key changes as settingDesired of package fleet does.
	DesiredVersion string                 `json:"desiredVersion2,omitempty"`
	Self           wire.ConnectedRegistry `json:"self"`

	Paused  bool      `json:"paused,omitempty"` // no sync runs until an operator resumes them
	AskedAt time.Time `json:"askedAt,omitzero"` // when an operator last asked for a sync: a window opened then

	Spent spending `json:"spent,omitzero"`

	// The values of [wire.Spec] whose requests were carried out.
	Resync int64 `json:"resync,omitempty"`
	Verify int64 `json:"verify,omitempty"`

	// Watermarks are, for each ancestor's feed, the sequence number up to which everything is here,
	// except Lacking. Descendants rely on them.
	Watermarks map[string]int64     `json:"watermarks,omitempty"`
	Lacking    []wire.OutOfSyncItem `json:"lacking,omitempty"` // items that fail permanently

	SyncStart   time.Time `json:"syncStart,omitzero"`
	SyncEnd     time.Time `json:"syncEnd,omitzero"`
	SyncSuccess time.Time `json:"syncSuccess,omitzero"`
	SyncTrigger string    `json:"syncTrigger,omitempty"`
	SyncState   string    `json:"syncState,omitempty"`

	LastAnswer time.Time              `json:"lastAnswer,omitzero"` // when the parent last answered
	Details    []wire.StatusDetail    `json:"details,omitempty"`   // the failures of the last sync that was not stopped
	Problem    *wire.StatusDetail     `json:"problem,omitempty"`   // which a person must solve; nil if there is none
	InFlight   []replication.InFlight `json:"inFlight,omitempty"`  // of the running, or the stopped, sync
}

// load reads the saved state.
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

// save writes the state. If that fails, the agent goes on without: after a
// restart, the parent sends again everything that the state lacks.
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

// priorities returns the priorities of the repositories. It returns none if this
// program cannot read them, because a newer parent may know more kinds.
func (s state) priorities() subscription.Priorities {
	p, _ := subscription.ParsePriorities(s.Self.Priorities)
	return p
}

// order returns the order in which a sync fetches. With urgentOnly it has only
// urgent repositories.
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
