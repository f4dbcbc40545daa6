package control

import (
	"encoding/json"
	"fmt"

	"ferry/internal/metadb"
)

// A Spec is what the root decided for a connected registry, as its row keeps it.
type Spec struct {
	Mode          string   `json:"mode"`
	Schedule      string   `json:"schedule"`
	SyncWindow    string   `json:"syncWindow,omitempty"`
	MessageTTL    string   `json:"messageTtl"`
	ClientTokens  []string `json:"clientTokens,omitempty"`
	LogLevel      string   `json:"logLevel"`
	GCEnabled     bool     `json:"gcEnabled"`
	GCSchedule    string   `json:"gcSchedule"`
	Notifications []string `json:"notifications,omitempty"`
	TagFilters    []string `json:"tagFilters,omitempty"`
	KeepLast      int      `json:"keepLast,omitempty"`
	Platforms     []string `json:"platforms,omitempty"`
	Bandwidth     []string `json:"bandwidth,omitempty"`
	ByteBudget    string   `json:"byteBudget,omitempty"`
	Priorities    []string `json:"priorities,omitempty"`
	Permissions   []string `json:"permissions,omitempty"` // as the parent said; a root reads the scope map
	Epoch         int64    `json:"epoch,omitempty"`       // counts deactivations
	Resync        int64    `json:"resync,omitempty"`      // counts how often a fresh snapshot was asked for
}

// SpecOf returns what the root decided for a row.
func SpecOf(row metadb.ConnectedRegistry) (Spec, error) {
	var v Spec
	if err := json.Unmarshal(row.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read connected registry %s: %w", row.Name, err)
	}
	return v, nil
}

// PutSpec writes a row with what the root decided for it.
func PutSpec(tx *metadb.Tx, row metadb.ConnectedRegistry, v Spec) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	row.Spec = text
	return tx.PutConnectedRegistry(row)
}
