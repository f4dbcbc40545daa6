package metadb

import (
	"cmp"
	"encoding/json"
	"time"
)

// A MirrorRule is a row of mirror_rules.
type MirrorRule struct {
	Name       string
	Spec       json.RawMessage // settings of an operator
	Secret     string          // the source's password, encrypted; "" is none
	Repository string          // that the rule fills; no two rules share one
	CreatedAt  time.Time
	Version    int64 // counts edits, beginning at 1

	RequestedAt time.Time // when an operator last requested a run
	RetrySince  time.Time // when the run was due that has to be retried; zero is none
	StartedAt   time.Time // of the last run
	EndedAt     time.Time // of the last run; while one runs, of the one before
	SucceededAt time.Time // when the repository last matched its source
	Error       string    // why the last run did not succeed

	Warnings json.RawMessage // problems of the last run that did not stop it
}

const mirrorRuleColumns = `name, spec, secret, repository, created_at, version,
	requested_at, retry_since, started_at, ended_at, succeeded_at, error, warnings`

func (r *MirrorRule) fields() []any {
	return []any{
		&r.Name, (*[]byte)(&r.Spec), &r.Secret, &r.Repository, at(&r.CreatedAt), &r.Version,
		at(&r.RequestedAt), at(&r.RetrySince), at(&r.StartedAt), at(&r.EndedAt), at(&r.SucceededAt), &r.Error,
		(*[]byte)(&r.Warnings),
	}
}

// MirrorRule returns the mirror rule name.
func (tx *Tx) MirrorRule(name string) (MirrorRule, error) {
	return get[MirrorRule](tx, "read mirror rule "+name,
		`SELECT `+mirrorRuleColumns+` FROM mirror_rules WHERE name = $1`, name)
}

// MirrorRules returns every mirror rule, by name.
func (tx *Tx) MirrorRules() ([]MirrorRule, error) {
	return list[MirrorRule](tx, "list mirror rules", `SELECT `+mirrorRuleColumns+` FROM mirror_rules ORDER BY name`)
}

// PutMirrorRule writes the settings of a mirror rule. A row of the same name keeps its creation
// time and its runs, and its version is incremented. The version of r is ignored.
func (tx *Tx) PutMirrorRule(r MirrorRule) error {
	tx.Changed(RuleTopic, "")
	return tx.do("write mirror rule "+r.Name,
		`INSERT INTO mirror_rules (`+mirrorRuleColumns+`) VALUES ($1, $2, $3, $4, $5, 1, 0, 0, 0, 0, 0, '', '[]')
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, secret = excluded.secret,
		repository = excluded.repository, version = mirror_rules.version + 1`,
		r.Name, string(r.Spec), r.Secret, r.Repository, millis(r.CreatedAt))
}

// RequestMirrorRun records the request for a run that begins from now on. A run that began in
// the same millisecond does not fulfil it.
func (tx *Tx) RequestMirrorRun(name string, at time.Time) error {
	tx.Changed(RuleTopic, "")
	return tx.one("write mirror rule "+name, `UPDATE mirror_rules
		SET requested_at = CASE WHEN started_at = $2 THEN started_at + 1 ELSE $2 END WHERE name = $1`, name, millis(at))
}

// SetMirrorRun writes the times, the error and the warnings of the last run, and since when it
// has to be retried.
func (tx *Tx) SetMirrorRun(r MirrorRule) error {
	return tx.one("write run of mirror rule "+r.Name, `UPDATE mirror_rules
		SET retry_since = $2, started_at = $3, ended_at = $4, succeeded_at = $5, error = $6, warnings = $7
		WHERE name = $1`,
		r.Name, millis(r.RetrySince), millis(r.StartedAt), millis(r.EndedAt), millis(r.SucceededAt), r.Error,
		cmp.Or(string(r.Warnings), "[]"))
}

// DeleteMirrorRule deletes a mirror rule. The caller is responsible for its items.
func (tx *Tx) DeleteMirrorRule(name string) error {
	tx.Changed(RuleTopic, "")
	return tx.one("delete mirror rule "+name, `DELETE FROM mirror_rules WHERE name = $1`, name)
}
