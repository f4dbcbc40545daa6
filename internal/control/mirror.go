package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

// maxMirrorRules is how many there may be: each looks at a whole repository
// now and then.
const maxMirrorRules = 1000

// defaultMirrorSchedule is once an hour.
const defaultMirrorSchedule = "0 * * * *"

// Mirrors is what runs mirror rules and imports; [mirror.Service] is one.
type Mirrors interface {
	// State returns how the rule's run goes.
	State(rule string) mirror.State
	// Changed says that a rule was written or deleted.
	Changed(rule string)
	// Wake says that a rule was asked to run.
	Wake()
	// Seal returns a password for the registry at l as it may be stored.
	Seal(l mirror.Location, password string) string
	// Import begins to bring an image here.
	Import(ctx context.Context, q mirror.ImportRequest) (mirror.Import, error)
	// Imports returns the imports that are remembered, the latest first.
	Imports() []mirror.Import
	// ImportOf returns an import as it is now.
	ImportOf(id string) (mirror.Import, bool)
}

// A MirrorRulePut is a mirror rule as it is to be.
type MirrorRulePut struct {
	Source               string   `json:"source" doc:"HOST/REPOSITORY, or http://HOST/REPOSITORY without TLS."`
	Repository           string   `json:"repository" doc:"The repository here. Each has one rule at most."`
	Schedule             string   `json:"schedule,omitempty" doc:"A cron expression in UTC; once an hour by default."`
	Window               string   `json:"window,omitempty" doc:"How long a run may take, as an ISO 8601 duration; none is as long as it takes."`
	TagFilters           []string `json:"tagFilters,omitempty" maxItems:"50"`
	Platforms            []string `json:"platforms,omitempty" maxItems:"20" doc:"Of indexes only what is for one of these, as linux/amd64; empty is every platform."`
	Username             string   `json:"username,omitempty" maxLength:"1024"`
	Password             string   `json:"password,omitempty" maxLength:"65536" doc:"It is kept sealed, and never shown."`
	CertificateAuthority string   `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}

// A MirrorRulePatch is what is to change.
type MirrorRulePatch struct {
	Source               *string   `json:"source,omitempty"`
	Schedule             *string   `json:"schedule,omitempty"`
	Window               *string   `json:"window,omitempty" doc:"Empty is as long as it takes."`
	TagFilters           *[]string `json:"tagFilters,omitempty" maxItems:"50"`
	Platforms            *[]string `json:"platforms,omitempty" maxItems:"20"`
	Username             *string   `json:"username,omitempty" maxLength:"1024" doc:"Empty forgets the password, too."`
	Password             *string   `json:"password,omitempty" maxLength:"65536"`
	CertificateAuthority *string   `json:"certificateAuthority,omitempty" maxLength:"262144"`
}

// A mirrorDesk is the mirror rules with what runs them.
type mirrorDesk struct {
	*Service
	mirrors Mirrors
}

func (d mirrorDesk) all(ctx context.Context) ([]MirrorRule, error) {
	all := []MirrorRule{}
	err := d.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.MirrorRules()
		for _, row := range rows {
			r, err := d.mirrorRuleOf(tx, row, d.mirrors.State(row.Name))
			if err != nil {
				return err
			}
			all = append(all, r)
		}
		return err
	})
	return all, err
}

func (d mirrorDesk) get(ctx context.Context, name string) (r MirrorRule, err error) {
	err = d.db.View(ctx, func(tx *metadb.Tx) error {
		r, err = d.read(tx, name)
		return err
	})
	return r, err
}

func (d mirrorDesk) read(tx *metadb.Tx, name string) (MirrorRule, error) {
	row, err := tx.MirrorRule(name)
	if err != nil {
		return MirrorRule{}, foundMirror(err, name)
	}
	return d.mirrorRuleOf(tx, row, d.mirrors.State(name))
}

func foundMirror(err error, name string) error {
	err = found(err, "mirror rule", name)
	if p := (*Problem)(nil); errors.As(err, &p) {
		p.Hint = "see ferry mirror list"
	}
	return err
}

// put creates a rule, or replaces one. Where no run is bound to a window, one
// begins now.
func (d mirrorDesk) put(ctx context.Context, by Caller, name string, put MirrorRulePut, when Precondition) (r MirrorRule, err error) {
	if err := checkMirrorName(name); err != nil {
		return MirrorRule{}, err
	}
	v := mirror.Spec{
		Source: put.Source, Repository: put.Repository, Schedule: cmp.Or(put.Schedule, defaultMirrorSchedule), Window: put.Window,
		TagFilters: put.TagFilters, Platforms: put.Platforms, Username: put.Username, CA: put.CertificateAuthority,
	}
	err = d.writeHere(ctx, by, "write", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		old, err := tx.MirrorRule(name)
		exists := err == nil
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return err
		}
		if err := when.check(exists, old.Version, "mirror rule", name); err != nil {
			return err
		}
		if exists && old.Repository != v.Repository {
			return keepsRepository(old)
		}
		row := metadb.MirrorRule{Name: name, CreatedAt: d.now()}
		if err := d.fill(&row, v, put.Password); err != nil {
			return err
		}
		if err := free(tx, row); err != nil {
			return err
		}
		r, err = d.store(tx, row, v)
		return err
	})
	d.told(err, name)
	return r, err
}

// update changes a rule. It counts from the next run; where none is bound to
// a window, that is now.
func (d mirrorDesk) update(ctx context.Context, by Caller, name string, patch MirrorRulePatch, when Precondition) (r MirrorRule, err error) {
	err = d.writeHere(ctx, by, "update", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		row, err := tx.MirrorRule(name)
		if err != nil {
			return foundMirror(err, name)
		}
		if err := when.check(true, row.Version, "mirror rule", name); err != nil {
			return err
		}
		old, err := mirror.SpecOf(row)
		if err != nil {
			return err
		}
		v, secret, password := patch.of(old), row.Secret, ""
		if patch.Password != nil {
			password = *patch.Password
		}
		if err := d.fill(&row, v, password); err != nil {
			return err
		}
		if patch.Password == nil && v.Username != "" && secret != "" { // it stays
			if was, is := sealedFor(old), sealedFor(v); was != is {
				return invalid("the password was given for %s, and is not sent to another registry", was).hint("give the password for %s", is)
			}
			row.Secret = secret
		}
		r, err = d.store(tx, row, v)
		return err
	})
	d.told(err, name)
	return r, err
}

// of returns v with the changes, but for the password.
func (p MirrorRulePatch) of(v mirror.Spec) mirror.Spec {
	for _, f := range []struct {
		to   *string
		from *string
	}{{&v.Source, p.Source}, {&v.Schedule, p.Schedule}, {&v.Window, p.Window}, {&v.Username, p.Username}, {&v.CA, p.CertificateAuthority}} {
		if f.from != nil {
			*f.to = *f.from
		}
	}
	if p.TagFilters != nil {
		v.TagFilters = *p.TagFilters
	}
	if p.Platforms != nil {
		v.Platforms = *p.Platforms
	}
	return v
}

// fill puts what was decided into row.
func (d mirrorDesk) fill(row *metadb.MirrorRule, v mirror.Spec, password string) error {
	if err := v.Check(); err != nil {
		return invalid("%s", err)
	}
	if password != "" && v.Username == "" {
		return invalid("a password needs a user name")
	}
	location, err := mirror.ParseLocation(v.Source)
	if err != nil {
		return invalid("%s", err)
	}
	row.Repository, row.Secret = v.Repository, d.mirrors.Seal(location, password)
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
		return conflict("there are %d mirror rules already, which is the most", len(rows))
	}
	return nil
}

func keepsRepository(row metadb.MirrorRule) error {
	return conflict("the mirror rule '%s' keeps the repository %s", row.Name, row.Repository).
		hint("delete it first: ferry mirror delete -n %s", row.Name)
}

// store writes a rule, and asks for a run of it unless that is bound to a
// window.
func (d mirrorDesk) store(tx *metadb.Tx, row metadb.MirrorRule, v mirror.Spec) (MirrorRule, error) {
	if err := tx.PutMirrorRule(row); err != nil {
		return MirrorRule{}, err
	}
	if v.Window == "" {
		if err := tx.AskMirrorRule(row.Name, d.now()); err != nil {
			return MirrorRule{}, err
		}
	}
	return d.read(tx, row.Name)
}

// run asks for a run that begins from now on, whatever the schedule says: one
// that goes on has listed what the source has, and another follows it.
func (d mirrorDesk) run(ctx context.Context, by Caller, name string) (r MirrorRule, err error) {
	err = d.writeHere(ctx, by, "run", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		if err := tx.AskMirrorRule(name, d.now()); err != nil {
			return foundMirror(err, name)
		}
		r, err = d.read(tx, name)
		return err
	})
	if err == nil {
		d.mirrors.Wake()
	}
	return r, err
}

// delete removes a rule. The images that it brought stay.
func (d mirrorDesk) delete(ctx context.Context, by Caller, name string, when Precondition) error {
	err := d.writeHere(ctx, by, "delete", "mirror-rules/"+name, func(tx *metadb.Tx) error {
		row, err := tx.MirrorRule(name)
		if err != nil {
			return foundMirror(err, name)
		}
		if err := when.check(true, row.Version, "mirror rule", name); err != nil {
			return err
		}
		if err := mirror.Forget(tx, name); err != nil {
			return err
		}
		return tx.DeleteMirrorRule(name)
	})
	d.told(err, name)
	return err
}

// told lets what runs rules know of a change.
func (d mirrorDesk) told(err error, name string) {
	if err == nil {
		d.mirrors.Changed(name)
	}
}
