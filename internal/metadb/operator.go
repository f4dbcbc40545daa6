package metadb

import (
	"encoding/json"
	"time"
)

// An Operator is a row of operators.
type Operator struct {
	Name         string
	Role         string // admin or reader
	PasswordHash string // argon2id, in the PHC string format
	Limits       OperatorLimits
	CreatedAt    time.Time
	Version      int64 // counts edits, beginning at 1
}

// OperatorLimits are the limits of an operator or of an API key; without either list it has none.
type OperatorLimits struct {
	Repositories []string // names, "prefix/*" or "*"
	Labels       []string // KEY=VALUE
}

// columns returns the values of the columns repositories and labels.
func (l OperatorLimits) columns() (repositories, labels string) {
	text := func(all []string) string {
		text, _ := json.Marshal(append([]string{}, all...)) // strings
		return string(text)
	}
	return text(l.Repositories), text(l.Labels)
}

const operatorColumns = `name, role, password_hash, repositories, labels, created_at, version`

func (o *Operator) fields() []any {
	return []any{&o.Name, &o.Role, &o.PasswordHash, parsed{&o.Limits.Repositories}, parsed{&o.Limits.Labels},
		at(&o.CreatedAt), &o.Version}
}

// Operator returns the operator name.
func (tx *Tx) Operator(name string) (Operator, error) {
	return get[Operator](tx, "read operator "+name,
		`SELECT `+operatorColumns+` FROM operators WHERE name = $1`, name)
}

// Operators returns every operator, by name.
func (tx *Tx) Operators() ([]Operator, error) {
	return list[Operator](tx, "list operators", `SELECT `+operatorColumns+` FROM operators ORDER BY name`)
}

// PutOperator writes an operator. A row of the same name keeps its creation time, and its version is
// incremented.
func (tx *Tx) PutOperator(o Operator) error {
	tx.wrote(OperatorRow, o.Name)
	repositories, labels := o.Limits.columns()
	return tx.do("write operator "+o.Name,
		`INSERT INTO operators (`+operatorColumns+`) VALUES ($1, $2, $3, $4, $5, $6, 1)
		ON CONFLICT (name) DO UPDATE SET role = excluded.role, password_hash = excluded.password_hash,
		repositories = excluded.repositories, labels = excluded.labels, version = operators.version + 1`,
		o.Name, o.Role, o.PasswordHash, repositories, labels, millis(o.CreatedAt))
}

// DeleteOperator deletes an operator and its API keys.
func (tx *Tx) DeleteOperator(name string) error {
	tx.wrote(OperatorRow, name)
	if err := tx.do("delete API keys of "+name, `DELETE FROM api_keys WHERE operator = $1`, name); err != nil {
		return err
	}
	return tx.one("delete operator "+name, `DELETE FROM operators WHERE name = $1`, name)
}

// An APIKey is a row of api_keys: a password of an operator for scripts, perhaps with fewer rights.
type APIKey struct {
	Operator  string
	Name      string // unique among the keys of the operator
	Hash      string // SHA-256 in hex
	Role      string // admin or reader
	Limits    OperatorLimits
	CreatedAt time.Time
	ExpiresAt time.Time
	UsedAt    time.Time // about when it was last used; zero is never
}

const apiKeyColumns = `operator, name, hash, role, repositories, labels, created_at, expires_at, used_at`

func (k *APIKey) fields() []any {
	return []any{&k.Operator, &k.Name, &k.Hash, &k.Role, parsed{&k.Limits.Repositories}, parsed{&k.Limits.Labels},
		at(&k.CreatedAt), at(&k.ExpiresAt), at(&k.UsedAt)}
}

// APIKeys returns every API key, by operator and name.
func (tx *Tx) APIKeys() ([]APIKey, error) {
	return list[APIKey](tx, "list API keys", `SELECT `+apiKeyColumns+` FROM api_keys ORDER BY operator, name`)
}

// APIKeysOf returns the API keys of an operator, by name.
func (tx *Tx) APIKeysOf(operator string) ([]APIKey, error) {
	return list[APIKey](tx, "list API keys of "+operator,
		`SELECT `+apiKeyColumns+` FROM api_keys WHERE operator = $1 ORDER BY name`, operator)
}

// AddAPIKey adds an API key, which its operator does not have yet.
func (tx *Tx) AddAPIKey(k APIKey) error {
	tx.wrote(OperatorRow, k.Operator)
	repositories, labels := k.Limits.columns()
	return tx.do("add API key of "+k.Operator,
		`INSERT INTO api_keys (`+apiKeyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		k.Operator, k.Name, k.Hash, k.Role, repositories, labels, millis(k.CreatedAt), millis(k.ExpiresAt),
		millis(k.UsedAt))
}

// DeleteAPIKey deletes an API key of an operator.
func (tx *Tx) DeleteAPIKey(operator, name string) error {
	tx.wrote(OperatorRow, operator)
	return tx.one("delete API key of "+operator, `DELETE FROM api_keys WHERE operator = $1 AND name = $2`, operator,
		name)
}

// SetAPIKeyUsed sets when the API key with the hash was last used; see [APIKey]. It changes no
// rights, so that it does not count as a write to the control plane.
func (tx *Tx) SetAPIKeyUsed(hash string, used time.Time) error {
	return tx.do("write use of an API key", `UPDATE api_keys SET used_at = $2 WHERE hash = $1`, hash, millis(used))
}
