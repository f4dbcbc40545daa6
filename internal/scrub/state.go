package scrub

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"ferry/internal/metadb"
)

// stateSetting is the setting with the state.
const stateSetting = "scrub"

// A state is all that a scrubber saves for the next start.
type state struct {
	Running *job      `json:"running,omitempty"`
	Last    *job      `json:"last,omitempty"`
	Since   time.Time `json:"since,omitzero"` // start of the period until the next scrub
}

// A job is one scrub, and its progress.
type job struct {
	Started    time.Time `json:"started"` // identifies the scrub
	Ended      time.Time `json:"ended,omitzero"`
	Asked      bool      `json:"asked,omitempty"` // on request
	Phase      phase     `json:"phase"`
	Repository string    `json:"repository,omitempty"` // of the last content that was read in the phase
	Digest     string    `json:"digest,omitempty"`
	Total      progress  `json:"total"` // when the scrub began
	Done       progress  `json:"done"`
	Damaged    int64     `json:"damaged,omitempty"`
	Unread     int64     `json:"unread,omitempty"`
}

type progress struct {
	Items int64 `json:"items"`
	Bytes int64 `json:"bytes"`
}

// A phase is the kind of content that a scrub is reading.
type phase int

const (
	readManifests phase = iota
	readBlobs
	readDamaged
	readAll
)

// next enters the next phase.
func (j *job) next() {
	j.Phase++
	j.Repository, j.Digest = "", ""
}

// load reads the state that an earlier process saved.
func (s *Scrubber) load(ctx context.Context) error {
	text, err := metadb.Read(ctx, s.DB, func(tx *metadb.Tx) (string, error) { return tx.Setting(stateSetting) })
	if err != nil || text == "" {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state{}
	if err := json.Unmarshal([]byte(text), &s.state); err != nil {
		return fmt.Errorf("read the place of the scrub: %w", err)
	}
	return nil
}

// save writes the state. If the disk is full, the scrub continues: after a restart, it reads
// some content twice.
func (s *Scrubber) save(ctx context.Context) {
	s.mu.Lock()
	text, err := json.Marshal(s.state)
	s.saved = s.Now()
	s.mu.Unlock()
	if err == nil {
		err = s.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.SetSetting(stateSetting, string(text)) })
	}
	if err != nil {
		s.Log.Warn("place of the scrub is not saved", "err", err)
	}
}
