package metadb

import "time"

// An Operator is a row of operators.
type Operator struct {
	Name         string
	Role         string // admin or reader
	PasswordHash string // argon2id, in the PHC string format
	CreatedAt    time.Time
}

func (o *Operator) fields() []any {
	return []any{&o.Name, &o.Role, &o.PasswordHash, at(&o.CreatedAt)}
}

// Operator returns the operator name.
func (tx *Tx) Operator(name string) (Operator, error) {
	return get[Operator](tx, "read operator "+name,
		`SELECT name, role, password_hash, created_at FROM operators WHERE name = $1`, name)
}

// Operators returns every operator, by name.
func (tx *Tx) Operators() ([]Operator, error) {
	return list[Operator](tx, "list operators",
		`SELECT name, role, password_hash, created_at FROM operators ORDER BY name`)
}

// PutOperator writes an operator. A row of the same name keeps its creation time.
func (tx *Tx) PutOperator(o Operator) error {
	tx.wrote(OperatorRow, o.Name)
	return tx.do("write operator "+o.Name,
		`INSERT INTO operators (name, role, password_hash, created_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (name) DO UPDATE SET role = excluded.role, password_hash = excluded.password_hash`,
		o.Name, o.Role, o.PasswordHash, millis(o.CreatedAt))
}
