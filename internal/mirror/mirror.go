// Package mirror copies content from other registries, which may run any software. A
// mirror rule keeps a repository here in sync with one of theirs, on a schedule. An import
// copies one image once. Both use the engine of package replication, as a sync with a
// parent does, so an interrupted transfer resumes from the same byte.
//
// A [Service] (service.go) starts the runs of rules (run.go) when they are due (due.go),
// and imports (import.go, importrow.go, importjob.go). Both read from a source (source.go), with retries
// (retry.go). The source makes plans for the engine (plan.go).
//
// A listing (listing.go, item.go) has the items that a rule selects. If it shrank by much,
// the loss must be confirmed before anything is removed (loss.go).
package mirror

import (
	"encoding/json"
	"fmt"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/subscription"
)

// A Spec has the settings of a rule.
type Spec struct {
	Source     string   `json:"source"`           // see [ParseLocation]
	Repository string   `json:"repository"`       // the local repository
	Schedule   string   `json:"schedule"`         // cron
	Window     string   `json:"window,omitempty"` // ISO 8601 duration; "" is no limit
	TagFilters []string `json:"tagFilters,omitempty"`
	Platforms  []string `json:"platforms,omitempty"` // to keep of indexes; none is all
	Username   string   `json:"username,omitempty"`  // "" is the login in Docker's configuration
	CA         string   `json:"ca,omitempty"`        // PEM certificates to trust in addition to the machine's
}

// SpecOf returns the settings of a rule.
func SpecOf(rule metadb.MirrorRule) (v Spec, err error) {
	if err := json.Unmarshal(rule.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read mirror rule %s: %w", rule.Name, err)
	}
	return v, nil
}

// Check returns an error if a setting is invalid.
func (s Spec) Check() error {
	if _, err := ParseLocation(s.Source); err != nil {
		return err
	}
	if err := oci.CheckRepository(s.Repository); err != nil {
		return fmt.Errorf("repository %.100q: %w", s.Repository, err)
	}
	if _, err := scheduleOf(s); err != nil {
		return err
	}
	if _, err := subscription.ParseTags(s.TagFilters, 0); err != nil {
		return err
	}
	if _, err := subscription.ParsePlatforms(s.Platforms); err != nil {
		return err
	}
	_, err := newTransport(s.CA)
	return err
}

// SourceName is the name of a rule as a source of items in the database.
func SourceName(rule string) string { return "mirror/" + rule }
