package control

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A Spec is the settings of a connected registry, in the form in which its row stores them.
type Spec struct {
	wire.Spec

	// SubscriptionSeq is the feed's number of the last change to the content that the connected
	// registry gets, apart from changes to its scope map.
	SubscriptionSeq int64 `json:"subscriptionSeq,omitempty"`

	ResyncAt time.Time `json:"resyncAt,omitzero"` // when an operator last asked for a resync

	// Former is the schedule before the last change to it. The registry follows it until it has heard
	// of the change.
	Former *FormerSchedule `json:"former,omitempty"`
}

// A FormerSchedule is the schedule of a connected registry until a time.
type FormerSchedule struct {
	Schedule   string    `json:"schedule"`
	SyncWindow string    `json:"syncWindow,omitempty"`
	Until      time.Time `json:"until"`
}

// SpecOf returns the settings in a row.
func SpecOf(row metadb.ConnectedRegistry) (Spec, error) {
	var v Spec
	if err := json.Unmarshal(row.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read connected registry %s: %w", row.Name, err)
	}
	return v, nil
}

// PutSpec writes a row with its settings. If they change the content that the connected registry
// gets, the change takes the next number of the feed.
func PutSpec(tx *metadb.Tx, row metadb.ConnectedRegistry, v Spec) (err error) {
	var old Spec
	if len(row.Spec) > 0 {
		if old, err = SpecOf(row); err != nil {
			return err
		}
	}
	if v.SubscriptionSeq = old.SubscriptionSeq; v.SubscriptionSeq == 0 || !v.selectsAs(old) {
		if v.SubscriptionSeq, err = tx.SkipFeed(); err != nil {
			return err
		}
	}
	if row.Spec, err = json.Marshal(v); err != nil {
		return err
	}
	return tx.PutConnectedRegistry(row)
}

// selectsAs reports whether v selects the same content as other.
func (v Spec) selectsAs(other Spec) bool {
	return v.KeepLast == other.KeepLast && slices.Equal(v.TagFilters, other.TagFilters) &&
		slices.Equal(v.Platforms, other.Platforms) && slices.Equal(v.Permissions, other.Permissions)
}
