package control

import (
	"cmp"
	"context"
	"encoding/json"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/retention"
)

// maxPurgeRules is the maximum number of purge rules.
const maxPurgeRules = 100

// defaultPurgeSchedule is once a day, in the night of Europe and of America.
const defaultPurgeSchedule = "0 3 * * *"

// A PurgeRunner runs purge rules; [retention.Service] implements it.
type PurgeRunner interface {
	// Wake tells the runner that a run of a rule was requested.
	Wake()
}

// PurgeRules are the purge rules of a root, and their runner.
type PurgeRules struct {
	service *Service
	runner  PurgeRunner
}

// NewPurgeRules returns the purge rules of an instance.
func NewPurgeRules(s *Service, runner PurgeRunner) *PurgeRules { return &PurgeRules{s, runner} }

// List returns every rule, by name.
func (p *PurgeRules) List(ctx context.Context) ([]api.PurgeRule, error) {
	return metadb.Read(ctx, p.service.db, func(tx *metadb.Tx) ([]api.PurgeRule, error) {
		rows, err := tx.PurgeRules()
		all := []api.PurgeRule{}
		for _, row := range rows {
			r, err := p.ruleOf(row)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
		return all, err
	})
}

// Get returns a rule, with the result of its last run.
func (p *PurgeRules) Get(ctx context.Context, name string) (api.PurgeRule, error) {
	return metadb.Read(ctx, p.service.db, func(tx *metadb.Tx) (api.PurgeRule, error) { return p.read(tx, name) })
}

func (p *PurgeRules) read(tx *metadb.Tx, name string) (api.PurgeRule, error) {
	row, err := tx.PurgeRule(name)
	if err != nil {
		return api.PurgeRule{}, MapNotFound(err, "purge rule", name)
	}
	return p.ruleOf(row)
}

// PolicyOf returns the policy in a request.
func PolicyOf(p api.PurgePolicy) retention.Policy {
	return retention.Policy{Filters: p.Filters, Ago: p.Ago, Keep: p.Keep, Untagged: p.Untagged}
}

// Put creates or replaces a rule. It runs by its schedule for the first time.
func (p *PurgeRules) Put(
	ctx context.Context, by Caller, name string, put api.PurgeRulePut, when Precondition,
) (r api.PurgeRule, err error) {
	if err := checkName("a purge rule", name); err != nil {
		return r, err
	}
	rule := retention.Rule{Policy: PolicyOf(put.PurgePolicy), Schedule: cmp.Or(put.Schedule, defaultPurgeSchedule)}
	if err := rule.Check(); err != nil {
		return r, Invalid("%s", err)
	}
	spec, err := json.Marshal(rule)
	if err != nil {
		return r, err
	}
	err = p.service.Write(ctx, by, "write", "purge-rules/"+name, func(tx *metadb.Tx) error {
		old, err := tx.PurgeRule(name)
		exists, err := when.CheckPut(old.Version, err, "purge rule", name)
		if err != nil {
			return err
		}
		rows, err := tx.PurgeRules()
		if err != nil {
			return err
		}
		if !exists && len(rows) >= maxPurgeRules {
			return Conflict("there are %d purge rules already, which is the most", len(rows)).
				WithHint("delete one that is not needed: ferry repository purge-rule list, then " +
					"ferry repository purge-rule delete -n NAME")
		}
		row := metadb.PurgeRule{Name: name, Spec: spec, CreatedAt: p.service.now()}
		if err := tx.PutPurgeRule(row); err != nil {
			return err
		}
		r, err = p.read(tx, name)
		return err
	})
	return r, err
}

// Run requests a run that begins after this moment, whatever the schedule says.
func (p *PurgeRules) Run(ctx context.Context, by Caller, name string) (r api.PurgeRule, err error) {
	err = p.service.Write(ctx, by, "run", "purge-rules/"+name, func(tx *metadb.Tx) error {
		if err := tx.RequestPurgeRun(name, p.service.now()); err != nil {
			return MapNotFound(err, "purge rule", name)
		}
		r, err = p.read(tx, name)
		return err
	})
	if err == nil {
		p.runner.Wake()
	}
	return r, err
}

// Delete deletes a rule.
func (p *PurgeRules) Delete(ctx context.Context, by Caller, name string, when Precondition) error {
	return p.service.Write(ctx, by, "delete", "purge-rules/"+name, func(tx *metadb.Tx) error {
		row, err := tx.PurgeRule(name)
		if err := when.CheckChange(row.Version, err, "purge rule", name); err != nil {
			return err
		}
		return tx.DeletePurgeRule(name)
	})
}

// ruleOf returns the API's form of a row.
func (p *PurgeRules) ruleOf(row metadb.PurgeRule) (api.PurgeRule, error) {
	rule, err := retention.RuleOf(row)
	if err != nil {
		return api.PurgeRule{}, err
	}
	r := api.PurgeRule{
		ID: "/purge-rules/" + row.Name, Name: row.Name, Schedule: rule.Schedule, CreationDate: row.CreatedAt,
		PurgePolicy: api.PurgePolicy{
			Filters: rule.Filters, Ago: rule.Ago, Keep: rule.Keep, Untagged: rule.Untagged,
		},
		ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
		Status: api.PurgeStatus{
			State: rule.State(row), LastRunStartTime: api.Time(row.StartedAt), LastRunEndTime: api.Time(row.EndedAt),
			NextRunTime: api.Time(rule.Next(row, p.service.now())),
		},
	}
	if len(row.Result) == 0 {
		return r, nil
	}
	var last retention.RuleResult
	err = json.Unmarshal(row.Result, &last)
	s := &r.Status
	s.TagsRemoved, s.ManifestsRemoved, s.BytesFreed, s.Held = last.Tags, last.Manifests, last.Bytes, last.Held
	s.Error = api.Text(last.Error)
	return r, err
}
