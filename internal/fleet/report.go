package fleet

import (
	"encoding/json"
	"fmt"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// heard is what an instance last said of itself, as its row keeps it.
type heard struct {
	SeenAt time.Time   `json:"seenAt,omitzero"` // when that was so, by the clock here
	Status wire.Status `json:"status"`

	// Up to where in the feed of this instance it knew of everything then.
	Cursor int64 `json:"cursor,omitempty"`

	// What of the content here it knew to be for it; nil where that is not known.
	Reach *wire.Reach `json:"reach,omitempty"`

	// Of one that others passed on: how many did, what will be Cursor of what it
	// says next, and what those above it followed as far as that goes.
	Via   int    `json:"via,omitempty"`
	Next  int64  `json:"next,omitempty"`
	Above string `json:"above,omitempty"`
}

// whole returns up to where in the feed of this instance it had everything,
// so that those below it were told of that when they next asked; 0 where it
// lacked something.
func (h heard) whole() int64 {
	if h.Status.ItemsPending+h.Status.ItemsFailed > 0 {
		return 0
	}
	return h.Cursor
}

// follows notes what the instance said it follows: what is for it now, or what
// was when that was last so.
func (h *heard) follows(now wire.Reach) {
	if h.Status.Reach == now.ID() {
		h.Reach = &now
	} else if h.Reach != nil && h.Status.Reach != h.Reach.ID() {
		h.Reach = nil
	}
}

func heardOf(row metadb.ConnectedRegistry) (heard, error) {
	var v heard
	if err := json.Unmarshal(row.Status, &v); err != nil {
		return heard{}, fmt.Errorf("read status of %s: %w", row.Name, err)
	}
	return v, nil
}

func putHeard(tx *metadb.Tx, row metadb.ConnectedRegistry, v heard) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.SetConnectedRegistryStatus(row.Name, text, row.InstanceID)
}

// release ends the activation of the instance that holds a row. What it last
// said stays known until another says something.
func release(tx *metadb.Tx, row metadb.ConnectedRegistry) error {
	h, err := heardOf(row)
	if err != nil {
		return err
	}
	row.InstanceID = ""
	return putHeard(tx, row, h)
}
