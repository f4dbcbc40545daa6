package control

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/mirror"
	"ferry/internal/replication"
)

// maxMirrorRules is the maximum number of rules, because each one lists a whole repository now and
// then.
const maxMirrorRules = 1000

// defaultMirrorSchedule is once an hour.
const defaultMirrorSchedule = "0 * * * *"

// A MirrorRunner runs mirror rules; [mirror.Service] implements it.
type MirrorRunner interface {
	// Status returns the state of the rule's run.
	Status(rule string) mirror.RunStatus
	// Changed tells the runner that a rule was written or deleted.
	Changed(rule string)
	// Wake tells the runner that a run of a rule was requested.
	Wake()
	// EncryptPassword encrypts a password for the registry at l, so that it may be stored.
	EncryptPassword(l mirror.Location, password string) string
}

// MirrorRules are the mirror rules of a root, and their runner.
type MirrorRules struct {
	service *Service
	runner  MirrorRunner
}

// NewMirrorRules returns the mirror rules of an instance.
func NewMirrorRules(s *Service, runner MirrorRunner) *MirrorRules { return &MirrorRules{s, runner} }

// List returns every rule, by name.
func (m *MirrorRules) List(ctx context.Context) ([]api.MirrorRule, error) {
	return metadb.Read(ctx, m.service.db, func(tx *metadb.Tx) ([]api.MirrorRule, error) {
		rows, err := tx.MirrorRules()
		all := []api.MirrorRule{}
		for _, row := range rows {
			r, err := m.ruleOf(tx, row)
			if err != nil {
				return nil, err
			}
			all = append(all, r)
		}
		return all, err
	})
}

// Get returns a rule with the state of its runs.
func (m *MirrorRules) Get(ctx context.Context, name string) (api.MirrorRule, error) {
	return metadb.Read(ctx, m.service.db, func(tx *metadb.Tx) (api.MirrorRule, error) { return m.read(tx, name) })
}

func (m *MirrorRules) read(tx *metadb.Tx, name string) (api.MirrorRule, error) {
	row, err := tx.MirrorRule(name)
	if err != nil {
		return api.MirrorRule{}, MapNotFound(err, "mirror rule", name)
	}
	return m.ruleOf(tx, row)
}

// Put creates or replaces a rule. Unless the rule has a window, a run begins now.
func (m *MirrorRules) Put(ctx context.Context, by Caller, name string, put api.MirrorRulePut,
	when Precondition) (r api.MirrorRule, err error) {
	if err := checkName("a mirror rule", name); err != nil {
		return api.MirrorRule{}, err
	}
	v := mirror.Spec{
		Source: put.Source, Repository: put.Repository, Schedule: cmp.Or(put.Schedule, defaultMirrorSchedule),
		Window:     put.Window,
		TagFilters: put.TagFilters, Platforms: put.Platforms, Username: put.Username, CA: put.CertificateAuthority,
	}
	err = m.service.Write(ctx, by, "write", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		old, err := tx.MirrorRule(name)
		exists, err := when.CheckPut(old.Version, err, "mirror rule", name)
		if err != nil {
			return err
		}
		if exists && old.Repository != v.Repository {
			return repositoryTaken(old)
		}
		if err := m.service.CheckReference(by, KindRepository, v.Repository); err != nil {
			return err
		}
		row := metadb.MirrorRule{Name: name, CreatedAt: m.service.now()}
		if err := m.fill(&row, v, put.Password); err != nil {
			return err
		}
		if err := checkRepositoryFree(tx, row); err != nil {
			return err
		}
		r, err = m.store(tx, row, v)
		return err
	})
	m.notify(err, name)
	return r, err
}

// Update changes a rule, for its next run. Unless the rule has a window, that run begins now.
func (m *MirrorRules) Update(ctx context.Context, by Caller, name string, patch api.MirrorRulePatch,
	when Precondition) (r api.MirrorRule, err error) {
	err = m.service.Write(ctx, by, "update", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		row, err := tx.MirrorRule(name)
		if err := when.CheckChange(row.Version, err, "mirror rule", name); err != nil {
			return err
		}
		old, err := mirror.SpecOf(row)
		if err != nil {
			return err
		}
		v, secret, password := applyPatch(old, patch), row.Secret, ""
		if patch.Password != nil {
			password = *patch.Password
		}
		if err := m.fill(&row, v, password); err != nil {
			return err
		}
		if patch.Password == nil && v.Username != "" && secret != "" { // the stored password stays
			if was, is := passwordHost(old), passwordHost(v); was != is {
				return Invalid("the password was given for %s, and is not sent to another registry",
					was).WithHint("give the password for %s", is)
			}
			row.Secret = secret
		}
		r, err = m.store(tx, row, v)
		return err
	})
	m.notify(err, name)
	return r, err
}

// applyPatch returns v with the changes in p, apart from the password.
func applyPatch(v mirror.Spec, p api.MirrorRulePatch) mirror.Spec {
	set(&v.Source, p.Source)
	set(&v.Schedule, p.Schedule)
	set(&v.Window, p.Window)
	set(&v.Username, p.Username)
	set(&v.CA, p.CertificateAuthority)
	if p.TagFilters != nil {
		v.TagFilters = p.TagFilters
	}
	if p.Platforms != nil {
		v.Platforms = p.Platforms
	}
	return v
}

// fill sets the spec and the password of row.
func (m *MirrorRules) fill(row *metadb.MirrorRule, v mirror.Spec, password string) error {
	if err := v.Check(); err != nil {
		return Invalid("%s", err)
	}
	if password != "" && v.Username == "" {
		return Invalid("a password needs a user name")
	}
	location, err := mirror.ParseLocation(v.Source)
	if err != nil {
		return Invalid("%s", err)
	}
	row.Repository, row.Secret = v.Repository, m.runner.EncryptPassword(location, password)
	row.Spec, err = json.Marshal(v)
	return err
}

// passwordHost returns the registry for which a rule's password was given.
func passwordHost(v mirror.Spec) string {
	l, err := mirror.ParseLocation(v.Source)
	if err != nil {
		return ""
	}
	return l.Address
}

// checkRepositoryFree returns an error if another rule has the repository of row, or if there are
// too many rules.
func checkRepositoryFree(tx *metadb.Tx, row metadb.MirrorRule) error {
	rows, err := tx.MirrorRules()
	if err != nil {
		return err
	}
	for _, other := range rows {
		if other.Name != row.Name && strings.EqualFold(other.Repository, row.Repository) {
			return repositoryTaken(other)
		}
	}
	if len(rows) >= maxMirrorRules {
		return Conflict("there are %d mirror rules already, which is the most", len(rows)).
			WithHint("delete one that is not needed: ferry mirror list, then ferry mirror delete -n NAME")
	}
	return nil
}

func repositoryTaken(row metadb.MirrorRule) error {
	return Conflict("the mirror rule '%s' keeps the repository %s", row.Name, row.Repository).
		WithHint("delete it first: ferry mirror delete -n %s", row.Name).Naming(KindMirrorRule + "/" + row.Name)
}

// store writes a rule, and requests a run of it unless the rule has a window.
func (m *MirrorRules) store(tx *metadb.Tx, row metadb.MirrorRule, v mirror.Spec) (api.MirrorRule, error) {
	if err := tx.PutMirrorRule(row); err != nil {
		return api.MirrorRule{}, err
	}
	if v.Window == "" {
		if err := tx.RequestMirrorRun(row.Name, m.service.now()); err != nil {
			return api.MirrorRule{}, err
		}
	}
	return m.read(tx, row.Name)
}

// Run requests a run that begins after this moment, whatever the schedule says. A run in progress
// has listed its source already, so that another one follows it.
func (m *MirrorRules) Run(ctx context.Context, by Caller, name string) (r api.MirrorRule, err error) {
	err = m.service.Write(ctx, by, "run", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		if err := tx.RequestMirrorRun(name, m.service.now()); err != nil {
			return MapNotFound(err, "mirror rule", name)
		}
		r, err = m.read(tx, name)
		return err
	})
	if err == nil {
		m.runner.Wake()
	}
	return r, err
}

// Delete deletes a rule. The images that it mirrored stay.
func (m *MirrorRules) Delete(ctx context.Context, by Caller, name string, when Precondition) error {
	err := m.service.Write(ctx, by, "delete", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		row, err := tx.MirrorRule(name)
		if err := when.CheckChange(row.Version, err, "mirror rule", name); err != nil {
			return err
		}
		if err := mirror.Forget(tx, name); err != nil {
			return err
		}
		return tx.DeleteMirrorRule(name)
	})
	m.notify(err, name)
	return err
}

// notify tells the runner of a change, unless err is set.
func (m *MirrorRules) notify(err error, name string) {
	if err == nil {
		m.runner.Changed(name)
	}
}

// shownFailures is the maximum number of failures in the API's answer.
const shownFailures = 10

// ruleOf returns the API's form of a row, with the state of its run.
func (m *MirrorRules) ruleOf(tx *metadb.Tx, row metadb.MirrorRule) (api.MirrorRule, error) {
	run := m.runner.Status(row.Name)
	v, err := mirror.SpecOf(row)
	if err != nil {
		return api.MirrorRule{}, err
	}
	r := api.MirrorRule{
		ID: "/mirror-rules/" + row.Name, Name: row.Name, Source: v.Source, Repository: v.Repository,
		Schedule: v.Schedule,
		Window:   api.Text(v.Window), TagFilters: api.List(v.TagFilters), Platforms: api.List(v.Platforms),
		Username: api.Text(v.Username), CertificateAuthority: api.Text(v.CA),
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
	r.Status = api.MirrorStatus{
		State: string(mirror.RuleStateOf(row, run.Running)), LastRunStartTime: api.Time(row.StartedAt),
		LastRunEndTime:  api.Time(row.EndedAt),
		LastSuccessTime: api.Time(row.SucceededAt), Error: api.Text(row.Error), Failures: []api.MirrorFailure{},
		Warnings:    SourceWarnings(mirror.WarningsOf(row)),
		NextRunTime: api.Time(run.NextRun(row, v, m.service.now())),
	}
	switch mirror.RuleState(r.Status.State) {
	case mirror.Running:
		r.Status.Error = api.Text(run.Problem)
		p := run.Progress
		r.Status.ByteProgress = api.ByteProgressOf(p.BytesDone, p.BytesTotal, p.ItemsUnplanned(), run.BytesPerSecond)
	case mirror.Waiting, mirror.Interrupted:
		r.Status.Error = nil
	}
	err = countItems(&r.Status, tx, mirror.SourceName(row.Name))
	return r, err
}

// SourceWarnings returns the API's form of the warnings of a run or an import.
func SourceWarnings(all []mirror.Warning) []api.SourceWarning {
	shown := make([]api.SourceWarning, len(all))
	for i, w := range all {
		shown[i] = api.SourceWarning{Code: string(w.Code), Message: w.Message}
	}
	return shown
}

// countItems sets the counts and the failures of the source's items.
func countItems(m *api.MirrorStatus, tx *metadb.Tx, source string) error {
	counts, err := tx.CountSyncItems(source)
	if err != nil {
		return err
	}
	m.ItemsSynced, m.ItemsPending = counts[replication.Synced], counts[replication.Pending]
	if m.ItemsFailed = counts[replication.Failed]; m.ItemsFailed == 0 {
		return nil
	}
	failed, err := tx.SyncItems(source, metadb.FailedSyncItem, "", "", shownFailures)
	for _, i := range failed {
		m.Failures = append(m.Failures, api.MirrorFailure{Tag: i.Tag, Error: i.Error})
	}
	return err
}
