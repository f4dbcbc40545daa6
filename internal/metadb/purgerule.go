package metadb

import (
	"encoding/json"
	"time"
)

// A PurgeRule is a row of purge_rules.
type PurgeRule struct {
	Name        string
	Spec        json.RawMessage // settings of an operator
	CreatedAt   time.Time
	Version     int64           // counts edits, beginning at 1
	RequestedAt time.Time       // when an operator last requested a run
	StartedAt   time.Time       // of the last run
	EndedAt     time.Time       // of the last run that ended
	Result      json.RawMessage // of the last run; empty while one runs
}

const purgeRuleColumns = `name, spec, created_at, version, requested_at, started_at, ended_at, result`

func (r *PurgeRule) fields() []any {
	return []any{
		&r.Name, (*[]byte)(&r.Spec), at(&r.CreatedAt), &r.Version, at(&r.RequestedAt), at(&r.StartedAt), at(&r.EndedAt),
		(*[]byte)(&r.Result),
	}
}

// PurgeRule returns the purge rule name.
func (tx *Tx) PurgeRule(name string) (PurgeRule, error) {
	return get[PurgeRule](tx, "read purge rule "+name,
		`SELECT `+purgeRuleColumns+` FROM purge_rules WHERE name = $1`, name)
}

// PurgeRules returns every purge rule, by name.
func (tx *Tx) PurgeRules() ([]PurgeRule, error) {
	return list[PurgeRule](tx, "list purge rules", `SELECT `+purgeRuleColumns+` FROM purge_rules ORDER BY name`)
}

// PutPurgeRule writes the settings of a purge rule. A row of the same name keeps its creation time and
// its runs, and its version is incremented. The version of r is ignored.
func (tx *Tx) PutPurgeRule(r PurgeRule) error {
	tx.Changed(RuleTopic, "")
	return tx.do("write purge rule "+r.Name,
		`INSERT INTO purge_rules (`+purgeRuleColumns+`) VALUES ($1, $2, $3, 1, 0, 0, 0, '')
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, version = purge_rules.version + 1`,
		r.Name, string(r.Spec), millis(r.CreatedAt))
}

// RequestPurgeRun records the request for a run that begins from now on.
func (tx *Tx) RequestPurgeRun(name string, at time.Time) error {
	tx.Changed(RuleTopic, "")
	return tx.one("write purge rule "+name, `UPDATE purge_rules
		SET requested_at = CASE WHEN started_at >= $2 THEN started_at + 1 ELSE $2 END WHERE name = $1`,
		name, millis(at))
}

// SetPurgeRun writes the times and the result of the last run.
func (tx *Tx) SetPurgeRun(r PurgeRule) error {
	return tx.one("write run of purge rule "+r.Name,
		`UPDATE purge_rules SET started_at = $2, ended_at = $3, result = $4 WHERE name = $1`,
		r.Name, millis(r.StartedAt), millis(r.EndedAt), string(r.Result))
}

// DeletePurgeRule deletes a purge rule.
func (tx *Tx) DeletePurgeRule(name string) error {
	tx.Changed(RuleTopic, "")
	return tx.one("delete purge rule "+name, `DELETE FROM purge_rules WHERE name = $1`, name)
}
