package control

import (
	"encoding/json"
	"fmt"
	"slices"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A Spec is what the root decided for a connected registry, as its row keeps it.
type Spec struct {
	wire.Spec
	Notifications []string `json:"notifications,omitempty"` // patterns of events; they stay at the root

	// SubscriptionSeq is the number, in the feed, of the last change of what
	// content the connected registry gets, its scope map aside.
	SubscriptionSeq int64 `json:"subscriptionSeq,omitempty"`
}

// SpecOf returns what the root decided for a connected registry.
func SpecOf(row metadb.ConnectedRegistry) (Spec, error) {
	var v Spec
	if err := json.Unmarshal(row.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read connected registry %s: %w", row.Name, err)
	}
	return v, nil
}

// PutSpec writes a row with what the root decided for it, which takes the next
// number of the feed where it changes what content the connected registry gets.
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
