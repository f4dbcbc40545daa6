package metadb

import (
	"cmp"
	"encoding/json"
	"time"
)

// A MirrorRule is a row of mirror_rules.
type MirrorRule struct {
	Name       string
	Spec       json.RawMessage // what an operator decided
	Secret     string          // the source's password, encrypted; "" is none
	Repository string          // that it keeps; no two rules keep one
	CreatedAt  time.Time
	Version    int64 // counts edits, beginning at 1

	RequestedAt time.Time // when an operator last requested a run
	RetrySince  time.Time // when the run was due that has to be retried; zero is none
	StartedAt   time.Time // of the last run
	EndedAt     time.Time // of the last run, or of the one before while one runs
	SucceededAt time.Time // when the two sides last matched
	Error       string    // why the last run did not end in step

	Warnings json.RawMessage // what was odd in the last run, and did not stop it
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

// PutMirrorRule writes what was decided for a mirror rule. One of the same
// name keeps its creation time and what is known of its runs; its version
// counts up. The version of r is not looked at.
func (tx *Tx) PutMirrorRule(r MirrorRule) error {
	return tx.do("write mirror rule "+r.Name,
		`INSERT INTO mirror_rules (`+mirrorRuleColumns+`) VALUES ($1, $2, $3, $4, $5, 1, 0, 0, 0, 0, 0, '', '[]')
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, secret = excluded.secret,
		repository = excluded.repository, version = mirror_rules.version + 1`,
		r.Name, string(r.Spec), r.Secret, r.Repository, millis(r.CreatedAt))
}

// RequestMirrorRun notes that somebody wants a run that begins from now on: one
// that began within the same millisecond is not it.
func (tx *Tx) RequestMirrorRun(name string, at time.Time) error {
	return tx.one("write mirror rule "+name, `UPDATE mirror_rules
		SET requested_at = CASE WHEN started_at = $2 THEN started_at + 1 ELSE $2 END WHERE name = $1`, name, millis(at))
}

// SetMirrorRun notes the times, the error and the warnings of the last run, and
// what is owed after it.
func (tx *Tx) SetMirrorRun(r MirrorRule) error {
	return tx.one("write run of mirror rule "+r.Name, `UPDATE mirror_rules
		SET retry_since = $2, started_at = $3, ended_at = $4, succeeded_at = $5, error = $6, warnings = $7 WHERE name = $1`,
		r.Name, millis(r.RetrySince), millis(r.StartedAt), millis(r.EndedAt), millis(r.SucceededAt), r.Error,
		cmp.Or(string(r.Warnings), "[]"))
}

// DeleteMirrorRule removes a mirror rule. Its items are the caller's affair.
func (tx *Tx) DeleteMirrorRule(name string) error {
	return tx.one("delete mirror rule "+name, `DELETE FROM mirror_rules WHERE name = $1`, name)
}
