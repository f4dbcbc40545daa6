package retention

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"ferry/internal/oci"
	"ferry/internal/schedule"
	"ferry/internal/subscription"
)

// Limits on a policy.
const (
	maxFilters = 100
	maxPattern = 512 // bytes of one filter
	maxKeep    = 1_000_000
)

// A Policy says what a purge removes. The database stores it as JSON.
type Policy struct {
	// Filters are REPOSITORY:REGEX. Only repositories, and in these only tags, that match one count. The
	// repository is a name, a pattern such as factory/* or *, or a regular expression for the whole name.
	Filters []string `json:"filters"`
	// Ago is the age, such as 30d or 12h30m, from which a tag goes: since it was last set. It is also the
	// age of untagged manifests, since they were pushed. "" is any age.
	Ago string `json:"ago,omitempty"`
	// Keep is how many of the newest matching tags of each repository stay, whatever their age.
	Keep int `json:"keep,omitempty"`
	// Untagged also removes manifests that no tag names, no index holds, and that are no referrer of
	// another manifest.
	Untagged bool `json:"untagged,omitempty"`
}

// A policy is a checked Policy.
type policy struct {
	Policy
	filters []filter
	age     time.Duration
	tags    bool // tags are removed, not only untagged manifests
}

// A filter selects tags of repositories.
type filter struct {
	repository func(name string) bool
	tag        *regexp.Regexp
}

// Check returns an error for people unless the policy is valid.
func (p Policy) Check() error {
	_, err := p.parse()
	return err
}

func (p Policy) parse() (policy, error) {
	c := policy{Policy: p, tags: p.Ago != "" || p.Keep > 0}
	switch {
	case len(p.Filters) == 0:
		return c, errors.New("no repository is named: want filters such as 'factory/app:.*'")
	case len(p.Filters) > maxFilters:
		return c, fmt.Errorf("there are %d filters: at most %d are allowed", len(p.Filters), maxFilters)
	case !c.tags && !p.Untagged:
		return c, errors.New("nothing would be removed: want an age, a number of tags to keep, or untagged manifests")
	case p.Keep < 0 || p.Keep > maxKeep:
		return c, fmt.Errorf("keep is %d: want 0 to %d", p.Keep, maxKeep)
	}
	for _, text := range p.Filters {
		f, err := parseFilter(text)
		if err != nil {
			return c, err
		}
		c.filters = append(c.filters, f)
	}
	var err error
	if p.Ago != "" {
		c.age, err = schedule.ParsePeriod(p.Ago)
	}
	return c, err
}

// parseFilter reads REPOSITORY:REGEX. Both parts are bounded, and the expressions of Go take linear time.
func parseFilter(text string) (f filter, err error) {
	if len(text) > maxPattern {
		return f, fmt.Errorf("filter %.40q... is longer than %d bytes", text, maxPattern)
	}
	repository, tag, ok := strings.Cut(text, ":")
	if !ok || repository == "" || tag == "" {
		return f, fmt.Errorf("filter %q is not REPOSITORY:REGEX, such as 'factory/app:^dev-'", text)
	}
	if f.tag, err = regexp.Compile(tag); err != nil {
		return f, fmt.Errorf("filter %q: %q is not a regular expression: %w", text, tag, err)
	}
	pattern, isPattern := strings.CutSuffix(repository, "/*")
	if repository == "*" || isPattern && oci.CheckRepository(pattern) == nil || oci.CheckRepository(repository) == nil {
		f.repository = func(name string) bool { return subscription.Covers(repository, name) }
		return f, nil
	}
	whole, err := regexp.Compile(`^(?:` + repository + `)$`)
	if err != nil {
		return f, fmt.Errorf("filter %q: %q is neither a repository nor an expression: %w", text, repository, err)
	}
	f.repository = whole.MatchString
	return f, nil
}

// of returns the filters that select tags of a repository.
func (p policy) of(repository string) (all []*regexp.Regexp) {
	for _, f := range p.filters {
		if f.repository(repository) {
			all = append(all, f.tag)
		}
	}
	return all
}
