// Package retention removes content that a root does not need any more: old tags, and manifests that
// nothing refers to. A [Policy] says which. Nothing is removed that a connected registry may still
// need, because it has not heard yet of the change that made it superfluous.
package retention

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/schedule"
	"ferry/internal/storage"
)

// A Holder is a connected registry that has not heard of everything, perhaps.
type Holder struct {
	Name      string
	Watermark int64         // the number of this root's feed up to which it has heard of everything
	TTL       time.Duration // how long it is waited for
	// Includes reports whether its subscription, and those on the way to it, include a repository.
	Includes func(repository string) bool
	// InFlight reports whether it says that it is fetching a manifest.
	InFlight func(repository string, d digest.Digest) bool
}

// A Fleet knows the activated connected registries.
type Fleet interface {
	Holders(ctx context.Context) ([]Holder, error)
}

// Options configure a Service. Storage, DB and Fleet are required.
type Options struct {
	Storage *storage.Storage
	DB      *metadb.DB
	Fleet   Fleet
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
	// Note writes the audit log when a rule removes something from a repository; nil does not.
	Note func(rule, repository string) storage.Note
}

// A Service purges, on request and by rules.
type Service struct {
	storage *storage.Storage
	db      *metadb.DB
	fleet   Fleet
	log     *slog.Logger
	now     func() time.Time
	note    func(rule, repository string) storage.Note
	wake    chan struct{}
}

// New returns a service. [Service.Run] runs its rules.
func New(o Options) *Service {
	s := &Service{
		storage: o.Storage, db: o.DB, fleet: o.Fleet, now: o.Now, note: o.Note,
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), wake: make(chan struct{}, 1),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// A Rule is the settings of a purge rule. The database stores it as JSON.
type Rule struct {
	Policy
	Schedule string `json:"schedule"` // cron, five fields, UTC
}

// Check returns an error for people unless the rule is valid.
func (r Rule) Check() error {
	if _, err := schedule.ParseCron(r.Schedule); err != nil {
		return err
	}
	return r.Policy.Check()
}

// RuleOf returns the settings of a row.
func RuleOf(row metadb.PurgeRule) (r Rule, err error) {
	err = json.Unmarshal(row.Spec, &r)
	return r, err
}

// The states of a rule.
const (
	StateWaiting   = "Waiting"
	StateRunning   = "Running" // or interrupted; then it begins again
	StateSucceeded = "Succeeded"
	StateFailed    = "Failed"
)

// State returns the state of a rule.
func (r Rule) State(row metadb.PurgeRule) string {
	var last RuleResult
	switch {
	case row.StartedAt.After(row.EndedAt):
		return StateRunning
	case row.StartedAt.IsZero(), row.RequestedAt.After(row.StartedAt):
		return StateWaiting
	case json.Unmarshal(row.Result, &last) != nil, last.Error != "":
		return StateFailed
	}
	return StateSucceeded
}

// Next returns when a rule runs next: at once if it was requested, or interrupted.
func (r Rule) Next(row metadb.PurgeRule, now time.Time) time.Time {
	if row.RequestedAt.After(row.StartedAt) || row.StartedAt.After(row.EndedAt) {
		return now
	}
	cron, err := schedule.ParseCron(r.Schedule)
	if err != nil {
		return time.Time{}
	}
	last := row.CreatedAt
	if row.StartedAt.After(last) {
		last = row.StartedAt
	}
	return cron.Next(last)
}

// Wake tells Run that a run was requested.
func (s *Service) Wake() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// ruleInterval is how often the rules are looked at.
const ruleInterval = time.Minute

// Run runs the rules that are due, one after another, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(ruleInterval)
	defer tick.Stop()
	for {
		if err := s.RunDue(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("purge rules failed", "err", err)
		}
		select {
		case <-tick.C:
		case <-s.wake:
		case <-ctx.Done():
			return nil
		}
	}
}

// RunDue runs the rules that are due.
func (s *Service) RunDue(ctx context.Context) error {
	rows, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]metadb.PurgeRule, error) { return tx.PurgeRules() })
	for _, row := range rows {
		if ctx.Err() != nil {
			break
		}
		rule, specErr := RuleOf(row)
		if specErr != nil {
			err = errors.Join(err, specErr)
			continue
		}
		if next := rule.Next(row, s.now()); next.IsZero() || next.After(s.now()) {
			continue
		}
		err = errors.Join(err, s.runRule(ctx, row, rule))
	}
	return err
}

// A RuleResult is the result of a rule's last run, as the database stores it. It has no lists.
type RuleResult struct {
	Tags      int    `json:"tags"`
	Manifests int    `json:"manifests"`
	Bytes     int64  `json:"bytes"`
	Held      int    `json:"held"`
	Error     string `json:"error,omitempty"`
}

// runRule runs a rule, and records its result.
func (s *Service) runRule(ctx context.Context, row metadb.PurgeRule, rule Rule) error {
	row.StartedAt, row.Result = s.now(), nil
	if err := s.record(ctx, row); err != nil {
		return err
	}
	q := Step{Policy: rule.Policy}
	if s.note != nil {
		q.Note = func(repository string) storage.Note { return s.note(row.Name, repository) }
	}
	var all Result
	var err error
	for {
		var r Result
		if r, err = s.Purge(ctx, q); err != nil {
			break
		}
		all.Add(r)
		all.Removed, all.Kept = nil, nil // a rule lists nothing, and many steps need no memory
		if q.Next = r.Next; q.Next == "" {
			break
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx) // the rule is due again after the next start
	}
	done := RuleResult{Tags: all.Tags, Manifests: all.Manifests, Bytes: all.Bytes, Held: all.Held}
	if err != nil {
		done.Error = err.Error()
	}
	row.EndedAt = s.now()
	if !row.EndedAt.After(row.StartedAt) {
		row.EndedAt = row.StartedAt.Add(time.Millisecond)
	}
	if row.Result, err = json.Marshal(done); err != nil {
		return err
	}
	s.log.Info("purge rule ran", "rule", row.Name, "tags", done.Tags, "manifests", done.Manifests, "bytes", done.Bytes,
		"held", done.Held, "err", done.Error)
	return s.record(ctx, row)
}

// record writes the run of a rule. A rule that was deleted meanwhile is no error.
func (s *Service) record(ctx context.Context, row metadb.PurgeRule) error {
	err := s.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error { return tx.SetPurgeRun(row) })
	if errors.Is(err, metadb.ErrNotFound) {
		return nil
	}
	return err
}
