// Package mirror keeps repositories here in sync with repositories of other
// registries, whatever software these run: by rules, on a schedule, or once, by
// an import. It moves content with the same engine as a sync with a parent, and
// continues from the same byte in the same way.
//
// A [Service] (service.go) starts runs (run.go) of rules when they are due
// (due.go), and imports (import.go). Both read from a source (source.go), which
// they ask again if it does not answer (retry.go). What a rule selects is a
// listing (listing.go, item.go), which is doubted if it shrank by much (doubt.go).
package mirror

import (
	"encoding/json"
	"fmt"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/subscription"
)

// A Spec is what an operator decided for a rule.
type Spec struct {
	Source     string   `json:"source"`           // as [ParseLocation] reads it
	Repository string   `json:"repository"`       // here
	Schedule   string   `json:"schedule"`         // cron
	Window     string   `json:"window,omitempty"` // ISO 8601; "" is as long as it takes
	TagFilters []string `json:"tagFilters,omitempty"`
	Platforms  []string `json:"platforms,omitempty"` // of indexes only what is for these; none is all
	Username   string   `json:"username,omitempty"`  // "" is as Docker's configuration says
	CA         string   `json:"ca,omitempty"`        // certificates, PEM, that the source may use beside the machine's
}

// SpecOf reads what was decided for a rule.
func SpecOf(rule metadb.MirrorRule) (v Spec, err error) {
	if err := json.Unmarshal(rule.Spec, &v); err != nil {
		return Spec{}, fmt.Errorf("read mirror rule %s: %w", rule.Name, err)
	}
	return v, nil
}

// Check returns an error unless everything in s can be read.
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

// SourceName is the name of a rule's items among those of other sources.
func SourceName(rule string) string { return "mirror/" + rule }
