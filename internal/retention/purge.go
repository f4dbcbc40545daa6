package retention

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// Limits on one step of a purge.
const (
	pageSize = 500
	// stepItems is how many removed tags and manifests a step reports before it ends.
	stepItems = 1000
	// stepTime is how long a step may take before it ends.
	stepTime = 5 * time.Second
	// maxListed is how many removed, and how many held items a result lists. The others are counted.
	maxListed = 10_000
	// young is the age up to which a manifest that nothing ever referred to stays, because the push
	// that brings its tag or its index may be in progress.
	young = 24 * time.Hour
)

// The reasons why something stays that a policy would remove.
const (
	ReasonLocked   = "Locked"   // its writeEnabled or deleteEnabled is false
	ReasonMirrored = "Mirrored" // a mirror rule or an import keeps it
	ReasonYoung    = "Young"    // it may belong to a push that is in progress
	ReasonUnheard  = "Unheard"  // a connected registry has not heard yet that it is not needed any more
	ReasonMoved    = "Moved"    // it changed while the purge ran
)

// An Item is a tag or a manifest.
type Item struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag,omitempty"` // "" is a manifest
	Digest     digest.Digest `json:"digest"`
	Bytes      int64         `json:"bytes,omitempty"` // that its removal frees
	// Reason and Registries say why it stays, and which connected registries have to hear first, at most 5.
	Reason     string   `json:"reason,omitempty"`
	Registries []string `json:"registries,omitempty"`
}

// A Result is what a purge did, or would do.
type Result struct {
	Tags      int    `json:"tags"`      // that were removed
	Manifests int    `json:"manifests"` // the same
	Bytes     int64  `json:"bytes"`     // that garbage collection frees after its grace period
	Held      int    `json:"held"`      // tags and manifests that stay although the policy selects them
	Removed   []Item `json:"removed"`
	Kept      []Item `json:"kept"`           // those that are held
	Next      string `json:"next,omitempty"` // where the next step begins; "" after the last
}

// Add adds the result of the next step.
func (r *Result) Add(o Result) {
	r.Tags, r.Manifests, r.Held = r.Tags+o.Tags, r.Manifests+o.Manifests, r.Held+o.Held
	r.Bytes, r.Next = r.Bytes+o.Bytes, o.Next
	r.Removed = append(r.Removed, o.Removed[:min(len(o.Removed), maxListed-len(r.Removed))]...)
	r.Kept = append(r.Kept, o.Kept[:min(len(o.Kept), maxListed-len(r.Kept))]...)
}

// A place is where the next step of a purge begins. Its text is JSON.
type place struct {
	Repository string        `json:"repository"`
	Manifests  bool          `json:"manifests,omitempty"` // its tags are done
	After      string        `json:"after,omitempty"`     // the tag
	Digest     digest.Digest `json:"digest,omitempty"`    // the same for a manifest
}

// A Step asks for a step of a purge.
type Step struct {
	Policy Policy
	DryRun bool
	Next   string // of the result of the last step; "" begins
	// Covers limits the purge to some repositories; nil is all.
	Covers func(repository string) bool
	// Note writes the audit log when the purge removes something from a repository; nil does not.
	Note func(repository string) storage.Note
}

// Check returns an error for people unless the policy and the place are valid.
func (q Step) Check() error {
	_, _, err := q.parse()
	return err
}

func (q Step) parse() (p policy, at place, err error) {
	if p, err = q.Policy.parse(); err != nil || q.Next == "" {
		return p, at, err
	}
	if err := json.Unmarshal([]byte(q.Next), &at); err != nil || oci.CheckRepository(at.Repository) != nil {
		return p, at, errors.New("next is not that of an earlier step")
	}
	return p, at, nil
}

// Purge removes what a policy selects, up to a limit of work. A dry run removes nothing, and takes whole
// repositories.
func (s *Service) Purge(ctx context.Context, q Step) (Result, error) {
	r := Result{Removed: []Item{}, Kept: []Item{}}
	p, at, err := q.parse()
	if err != nil {
		return r, err
	}
	registries, err := s.fleet.Holders(ctx)
	if err != nil {
		return r, err
	}
	step := &step{Service: s, Step: q, policy: p, holders: registries, result: &r, deadline: s.now().Add(stepTime)}
	err = step.run(ctx, at)
	return r, err
}

// A step is one call of Purge.
type step struct {
	*Service
	Step
	policy
	holders  []Holder
	result   *Result
	deadline time.Time
}

// run works from a place on.
func (s *step) run(ctx context.Context, at place) error {
	if at.Repository != "" {
		if err := s.repository(ctx, at); err != nil || s.result.Next != "" {
			return err
		}
	}
	for {
		var names []string
		err := s.storage.View(ctx, func(v *storage.View) (err error) {
			names, err = v.Repositories(at.Repository, pageSize)
			return err
		})
		if err != nil {
			return err
		}
		for _, name := range names {
			at = place{Repository: name}
			if s.Covers != nil && !s.Covers(name) || len(s.of(name)) == 0 {
				continue
			}
			if s.isOver() {
				return s.stopAt(at)
			}
			if err := s.repository(ctx, at); err != nil || s.result.Next != "" {
				return err
			}
		}
		if len(names) < pageSize {
			return nil
		}
	}
}

// isOver reports whether the step has done enough.
func (s *step) isOver() bool {
	return len(s.result.Removed)+len(s.result.Kept) >= stepItems || s.now().After(s.deadline)
}

func (s *step) stopAt(at place) error {
	text, err := json.Marshal(at)
	s.result.Next = string(text)
	return err
}

// repository purges one repository, from a place on.
func (s *step) repository(ctx context.Context, at place) error {
	r := &repositoryPurge{step: s, name: at.Repository, filters: s.of(at.Repository)}
	for _, h := range s.holders {
		if h.Includes(r.name) {
			r.holders = append(r.holders, h)
		}
	}
	var notes []storage.Note
	if s.Note != nil {
		notes = append(notes, s.Note(r.name))
	}
	r.purge = s.storage.NewPurge(r.name, r.decide, notes...)
	if s.DryRun {
		r.purge.Simulate()
	}
	var err error
	if s.policy.tags && !at.Manifests {
		err = r.tags(ctx, at.After)
	}
	if err == nil && s.Untagged && s.result.Next == "" {
		err = r.manifests(ctx, at.Digest)
	}
	switch {
	case errors.Is(err, oci.ErrNameUnknown): // it was deleted meanwhile
		return nil
	case errors.Is(err, oci.ErrDenied):
		r.hold(Item{Reason: ReasonLocked})
		return nil
	}
	return err
}

// A repositoryPurge is the purge of one repository.
type repositoryPurge struct {
	*step
	name    string
	filters []*regexp.Regexp
	holders []Holder // the connected registries that include it
	purge   *storage.Purge
}

// matches reports whether a filter selects a tag.
func (r *repositoryPurge) matches(tag string) bool {
	return slices.ContainsFunc(r.filters, func(f *regexp.Regexp) bool { return f.MatchString(tag) })
}

// tags removes old tags after the tag named after.
func (r *repositoryPurge) tags(ctx context.Context, after string) error {
	newest, some, err := r.newestToGo(ctx)
	if err != nil || !some {
		return err
	}
	before := r.now().Add(-r.age)
	last := storage.Tag{Name: after}
	for {
		page, err := r.purge.TagPage(ctx, storage.TagOrder{}, last, pageSize)
		if err != nil || len(page) == 0 {
			return err
		}
		last = page[len(page)-1]
		var old []storage.Tag
		for _, t := range page {
			if r.matches(t.Name) && !isNewer(t, newest) && !t.UpdatedAt.After(before) {
				old = append(old, t)
			}
		}
		err = r.purge.Tags(ctx, old, func(t storage.Tag, stays error) {
			item := Item{Repository: r.name, Tag: t.Name, Digest: t.Digest}
			if stays != nil {
				item.Reason = reasonOf(stays)
				r.hold(item)
				return
			}
			r.result.Tags++
			r.list(item)
		})
		if err != nil {
			return err
		}
		if !r.DryRun && r.isOver() {
			return r.stopAt(place{Repository: r.name, After: last.Name})
		}
	}
}

// reasonOf returns why a tag stays.
func reasonOf(stays error) string {
	switch e := oci.AsError(stays); {
	case e == nil:
		return ReasonMoved
	case e.Detail != nil:
		return ReasonLocked
	}
	return ReasonMirrored
}

// newestToGo returns the newest tag that does not stay because of its place among the matching ones. some is
// false if there is none.
func (r *repositoryPurge) newestToGo(ctx context.Context) (newest storage.Tag, some bool, err error) {
	order := storage.TagOrder{ByTime: true, Newest: true}
	for left := r.Keep; ; {
		page, err := r.purge.TagPage(ctx, order, newest, pageSize)
		if err != nil || len(page) == 0 {
			return newest, false, err
		}
		for _, t := range page {
			if newest = t; !r.matches(t.Name) {
				continue
			}
			if left == 0 {
				return t, true, nil
			}
			left--
		}
	}
}

func isNewer(t, o storage.Tag) bool {
	c := t.UpdatedAt.Compare(o.UpdatedAt)
	return c > 0 || c == 0 && t.Name > o.Name
}

// manifests removes manifests that nothing refers to, after the digest after.
func (r *repositoryPurge) manifests(ctx context.Context, after digest.Digest) error {
	removed := func(m storage.Manifest, freed int64) {
		r.result.Manifests++
		r.result.Bytes += freed
		r.list(Item{Repository: r.name, Digest: m.Digest, Bytes: freed})
	}
	for {
		page, last, err := r.purge.Unreferenced(ctx, after, pageSize)
		if err != nil {
			return err
		}
		if err := r.purge.Manifests(ctx, page, removed); err != nil {
			return err
		}
		if last {
			return r.purge.Manifests(ctx, r.purge.Untagged(), removed)
		}
		after = page[len(page)-1]
		if !r.DryRun && r.isOver() {
			return r.stopAt(place{Repository: r.name, Manifests: true, Digest: after})
		}
	}
}

// decide decides about a manifest that nothing refers to.
func (r *repositoryPurge) decide(c storage.PurgeCandidate) bool {
	if c.PushedAt.After(r.now().Add(-r.age)) {
		return false
	}
	item := Item{Repository: r.name, Digest: c.Digest}
	switch {
	case c.Locked():
		item.Reason = ReasonLocked
	case c.Synced:
		item.Reason = ReasonMirrored
	case !c.WasReferenced && c.PushedAt.After(r.now().Add(-young)):
		item.Reason = ReasonYoung
	default:
		if item.Registries = r.unheard(c); len(item.Registries) == 0 {
			return true
		}
		item.Reason = ReasonUnheard
	}
	r.hold(item)
	return false
}

// maxNamed is how many connected registries an item names.
const maxNamed = 5

// unheard returns connected registries that may still need a manifest.
func (r *repositoryPurge) unheard(c storage.PurgeCandidate) (names []string) {
	since := r.storage.Uptime().Sub(c.Release.At)
	for _, h := range r.holders {
		if len(names) == maxNamed {
			break
		}
		if since <= h.TTL && (h.Watermark < c.Release.Seq || h.InFlight(r.name, c.Digest)) {
			names = append(names, h.Name)
		}
	}
	return names
}

func (r *repositoryPurge) list(i Item) {
	if len(r.result.Removed) < maxListed {
		r.result.Removed = append(r.result.Removed, i)
	}
}

func (r *repositoryPurge) hold(i Item) {
	i.Repository = r.name
	r.result.Held++
	if len(r.result.Kept) < maxListed {
		r.result.Kept = append(r.result.Kept, i)
	}
}

// String returns the result for the log and for people.
func (r Result) String() string {
	text := fmt.Sprintf("removed %d tags and %d manifests, %d bytes to free", r.Tags, r.Manifests, r.Bytes)
	if r.Held > 0 {
		text += fmt.Sprintf(", held %d back", r.Held)
	}
	return strings.TrimSpace(text)
}
