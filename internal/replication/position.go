package replication

import (
	"context"
	"encoding/json"
	"maps"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
)

// positionSetting is the setting that holds the engine's position; see [Engine.sourceKey].
const positionSetting = "sync-place"

// A Position says how far this registry has recorded the listings of its source.
type Position struct {
	Feed         string `json:"feed,omitempty"`         // the feed in which Cursor counts; "" is none
	Subscription string `json:"subscription,omitempty"` // of the recorded listings
	Cursor       int64  `json:"cursor,omitempty"`       // sequence number up to which repositories are recorded
	Since        int64  `json:"since,omitempty"`        // Cursor of the last answer without More
	// AsOf is the time of the last answer without More. An item that was in sync then
	// is known to have matched the source then.
	AsOf time.Time `json:"asOf,omitzero"`
	// Pass is the feed's head when the running pass over all repositories began; 0 is
	// no pass.
	Pass int64 `json:"pass,omitempty"`

	// Watermarks say up to which sequence number of each feed above it the source had
	// everything when it last answered.
	Watermarks map[string]int64 `json:"watermarks,omitempty"`
	// Lacking are items that the source lacks although the watermarks cover them.
	Lacking []MissingItem `json:"lacking,omitempty"`

	// Locks says that the locks of everything up to Cursor are recorded, if the source has any.
	Locks bool `json:"locks,omitempty"`

	Page *Page `json:"page,omitempty"` // the next page of a listing that is partly recorded
	// Relist are repositories whose recorded items do not match the source's sum. Their
	// complete listing must be requested.
	Relist []string `json:"relist,omitempty"`
}

// A MissingItem is an item that cannot be synced, because the source itself lacks it.
type MissingItem struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"` // "" for a manifest without a tag
	Digest     digest.Digest `json:"digest"`        // of the manifest that the source should have
	Error      string        `json:"error"`         // why the source lacks it
}

// A Page identifies a page of a complete listing.
type Page struct {
	Repository string `json:"repository"`
	Seq        int64  `json:"seq"`
	After      string `json:"after"`
}

// Current reports whether everything is recorded that the source had when it last
// answered.
func (p Position) Current() bool {
	return p.Feed != "" && p.Pass == 0 && p.Since == p.Cursor && p.Page == nil && len(p.Relist) == 0
}

// Known returns, for each feed, the sequence number up to which everything is recorded;
// nil if the position is not current.
func (p Position) Known() map[string]int64 {
	if !p.Current() {
		return nil
	}
	known := maps.Clone(p.Watermarks)
	if known == nil {
		known = map[string]int64{}
	}
	known[p.Feed] = p.Cursor
	return known
}

// NextPage returns the page of a complete listing to request next; nil is none.
func (p Position) NextPage() *Page {
	if p.Page == nil && len(p.Relist) > 0 {
		return &Page{Repository: p.Relist[0]}
	}
	return p.Page
}

// Position returns the engine's position. It is zero if nothing is recorded.
func (e *Engine) Position(ctx context.Context) (Position, error) {
	return metadb.Read(ctx, e.db, e.loadPosition)
}

func (e *Engine) loadPosition(tx *metadb.Tx) (p Position, err error) {
	text, err := tx.Setting(e.sourceKey(positionSetting))
	if err == nil && text != "" {
		err = json.Unmarshal([]byte(text), &p)
	}
	return p, err
}

func (e *Engine) savePosition(tx *metadb.Tx, p Position) error {
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return tx.SetSetting(e.sourceKey(positionSetting), string(text))
}
