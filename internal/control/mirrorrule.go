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

// maxMirrorRules is how many there may be: each looks at a whole repository
// now and then.
const maxMirrorRules = 1000

// defaultMirrorSchedule is once an hour.
const defaultMirrorSchedule = "0 * * * *"

// A MirrorRunner runs mirror rules; [mirror.Service] is one.
type MirrorRunner interface {
	// Status returns how the rule's run goes.
	Status(rule string) mirror.RunStatus
	// Changed says that a rule was written or deleted.
	Changed(rule string)
	// Wake says that a rule was asked to run.
	Wake()
	// EncryptPassword returns a password for the registry at l as it may be stored.
	EncryptPassword(l mirror.Location, password string) string
}

// MirrorRules are the mirror rules of a root, with what runs them.
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

// Get returns a rule, and how its runs go.
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

// Put creates a rule, or replaces one. Where no run is bound to a window, one
// begins now.
func (m *MirrorRules) Put(ctx context.Context, by Caller, name string, put api.MirrorRulePut,
	when Precondition) (r api.MirrorRule, err error) {
	if err := checkName("mirror rule", name); err != nil {
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
			return keepsRepository(old)
		}
		row := metadb.MirrorRule{Name: name, CreatedAt: m.service.now()}
		if err := m.fill(&row, v, put.Password); err != nil {
			return err
		}
		if err := free(tx, row); err != nil {
			return err
		}
		r, err = m.store(tx, row, v)
		return err
	})
	m.notify(err, name)
	return r, err
}

// Update changes a rule. It counts from the next run; where none is bound to
// a window, that is now.
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
		v, secret, password := patched(old, patch), row.Secret, ""
		if patch.Password != nil {
			password = *patch.Password
		}
		if err := m.fill(&row, v, password); err != nil {
			return err
		}
		if patch.Password == nil && v.Username != "" && secret != "" { // it stays
			if was, is := sealedFor(old), sealedFor(v); was != is {
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

// patched returns v with the changes, but for the password.
func patched(v mirror.Spec, p api.MirrorRulePatch) mirror.Spec {
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

// fill puts what was decided into row.
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

// sealedFor is the registry that a rule's password is for.
func sealedFor(v mirror.Spec) string {
	l, err := mirror.ParseLocation(v.Source)
	if err != nil {
		return ""
	}
	return l.Address
}

// free returns an error unless row may have its repository.
func free(tx *metadb.Tx, row metadb.MirrorRule) error {
	rows, err := tx.MirrorRules()
	if err != nil {
		return err
	}
	for _, other := range rows {
		if other.Name != row.Name && strings.EqualFold(other.Repository, row.Repository) {
			return keepsRepository(other)
		}
	}
	if len(rows) >= maxMirrorRules {
		return Conflict("there are %d mirror rules already, which is the most", len(rows))
	}
	return nil
}

func keepsRepository(row metadb.MirrorRule) error {
	return Conflict("the mirror rule '%s' keeps the repository %s", row.Name, row.Repository).
		WithHint("delete it first: ferry mirror delete -n %s", row.Name)
}

// store writes a rule, and asks for a run of it unless that is bound to a
// window.
func (m *MirrorRules) store(tx *metadb.Tx, row metadb.MirrorRule, v mirror.Spec) (api.MirrorRule, error) {
	if err := tx.PutMirrorRule(row); err != nil {
		return api.MirrorRule{}, err
	}
	if v.Window == "" {
		if err := tx.AskMirrorRule(row.Name, m.service.now()); err != nil {
			return api.MirrorRule{}, err
		}
	}
	return m.read(tx, row.Name)
}

// Run asks for a run that begins from now on, whatever the schedule says: one
// that goes on has listed what the source has, and another follows it.
func (m *MirrorRules) Run(ctx context.Context, by Caller, name string) (r api.MirrorRule, err error) {
	err = m.service.Write(ctx, by, "run", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		if err := tx.AskMirrorRule(name, m.service.now()); err != nil {
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

// Delete removes a rule. The images that it brought stay.
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

// notify lets what runs rules know of a change.
func (m *MirrorRules) notify(err error, name string) {
	if err == nil {
		m.runner.Changed(name)
	}
}

// shownFailures is how many of a rule's failures are shown.
const shownFailures = 10

// ruleOf makes a resource of a row and of how its run goes.
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
	case mirror.Waiting, mirror.BrokenOff:
		r.Status.Error = nil
	}
	err = countItems(&r.Status, tx, mirror.SourceName(row.Name))
	return r, err
}

// SourceWarnings are warnings of a run or an import as the API shows them.
func SourceWarnings(all []mirror.Warning) []api.SourceWarning {
	shown := make([]api.SourceWarning, len(all))
	for i, w := range all {
		shown[i] = api.SourceWarning{Code: string(w.Code), Message: w.Message}
	}
	return shown
}

// countItems adds what is known of the source's items.
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
