package connected

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/wire"
)

// memorySetting is the name under which the agent's memory is kept.
const memorySetting = "connected-registry"

// A memory is what an agent must know after a restart with the link down.
type memory struct {
	Activated      bool                   `json:"activated"`
	ActivatedAt    time.Time              `json:"activatedAt,omitzero"`
	DesiredVersion string                 `json:"desiredVersion,omitempty"`
	Self           wire.ConnectedRegistry `json:"self"`

	Paused  bool      `json:"paused,omitempty"` // no sync runs until somebody resumes them
	AskedAt time.Time `json:"askedAt,omitzero"` // when somebody last asked for a sync: a window opened then

	Spent spending `json:"spent,omitzero"`

	Resync int64 `json:"resync,omitempty"` // the last wish for a listing of every repository that was heeded

	// Whole is, for each ancestor's feed, the sequence number up to which
	// everything is here: what those below this registry can rely on.
	Whole map[string]int64 `json:"whole,omitempty"`

	SyncStart   time.Time `json:"syncStart,omitzero"`
	SyncEnd     time.Time `json:"syncEnd,omitzero"`
	SyncSuccess time.Time `json:"syncSuccess,omitzero"`
	SyncTrigger string    `json:"syncTrigger,omitempty"`
	SyncState   string    `json:"syncState,omitempty"`

	Heard   time.Time              `json:"heard,omitzero"`    // when the parent last answered
	Details []wire.StatusDetail    `json:"details,omitempty"` // what was wrong when a sync last came to its end
	Left    []replication.InFlight `json:"left,omitempty"`    // what the sync that runs, or was stopped, has begun
}

// recall reads the memory.
func (a *Agent) recall(ctx context.Context) error {
	err := a.db.View(ctx, func(tx *metadb.Tx) error {
		text, err := tx.Setting(memorySetting)
		if err != nil || text == "" {
			return err
		}
		return json.Unmarshal([]byte(text), &a.memory)
	})
	if err != nil {
		return fmt.Errorf("start agent: read its memory: %w", err)
	}
	return nil
}

// recalled returns the memory as it is now.
func (a *Agent) recalled() memory {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.memory
}

// remember changes the memory, and writes it down. Where the disk does not
// take it, the agent goes on: what it forgets with a restart, it learns again.
func (a *Agent) remember(ctx context.Context, change func(*memory)) {
	a.mu.Lock()
	change(&a.memory)
	m := a.memory
	a.mu.Unlock()
	text, err := json.Marshal(m)
	if err == nil {
		err = a.db.Update(context.WithoutCancel(ctx), func(tx *metadb.Tx) error {
			return tx.SetSetting(memorySetting, string(text))
		})
	}
	if err != nil {
		a.log.Warn("agent's memory is not written", "err", err)
	}
}
