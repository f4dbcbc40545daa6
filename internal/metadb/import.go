package metadb

import (
	"encoding/json"
	"time"
)

// An Import is a row of imports: the copy of one image of another registry.
type Import struct {
	ID string
	// Number identifies the request among those with the same ID, and orders all. [Tx.PutImport] sets it.
	Number    int64
	Spec      json.RawMessage // what is copied, and to where
	Secret    string          // the access to the source, encrypted; "" is none, or it has ended
	Actor     string          // the operator who requested it
	Sender    string          // the address that the request came from
	State     string
	StartedAt time.Time
	EndedAt   time.Time       // zero until it ends
	Status    json.RawMessage // its progress and its result
}

const importColumns = `id, number, spec, secret, actor, sender, state, started_at, ended_at, status`

func (i *Import) fields() []any {
	return []any{
		&i.ID, &i.Number, (*[]byte)(&i.Spec), &i.Secret, &i.Actor, &i.Sender, &i.State, at(&i.StartedAt),
		at(&i.EndedAt), (*[]byte)(&i.Status),
	}
}

// Import returns the last import with an ID.
func (tx *Tx) Import(id string) (Import, error) {
	return get[Import](tx, "read import "+id, `SELECT `+importColumns+` FROM imports WHERE id = $1`, id)
}

// Imports returns all imports, the latest first.
func (tx *Tx) Imports() ([]Import, error) {
	return list[Import](tx, "list imports", `SELECT `+importColumns+` FROM imports ORDER BY number DESC`)
}

// UnfinishedImports returns the imports that have not ended, the oldest first.
func (tx *Tx) UnfinishedImports() ([]Import, error) {
	return list[Import](tx, "list imports",
		`SELECT `+importColumns+` FROM imports WHERE ended_at = 0 ORDER BY number`)
}

// PutImport writes a new import, in the place of an earlier one with the same ID, and returns its number.
func (tx *Tx) PutImport(i Import) (number int64, err error) {
	tx.Changed(ImportTopic, "")
	return get[int64](tx, "write import "+i.ID, `INSERT INTO imports (`+importColumns+`)
		SELECT $1, COALESCE(MAX(number), 0) + 1, $2, $3, $4, $5, $6, $7, 0, $8 FROM imports WHERE TRUE
		ON CONFLICT (id) DO UPDATE SET number = excluded.number, spec = excluded.spec, secret = excluded.secret,
		actor = excluded.actor, sender = excluded.sender, state = excluded.state, started_at = excluded.started_at,
		ended_at = 0, status = excluded.status RETURNING number`,
		i.ID, string(i.Spec), i.Secret, i.Actor, i.Sender, i.State, millis(i.StartedAt), string(i.Status))
}

// SetImport writes the state and the status of an import. It returns [ErrNotFound] if the import has ended, or a
// later one has its ID.
func (tx *Tx) SetImport(i Import) error {
	return tx.one("write import "+i.ID,
		`UPDATE imports SET state = $3, status = $4 WHERE id = $1 AND number = $2 AND ended_at = 0`,
		i.ID, i.Number, i.State, string(i.Status))
}

// EndImport is like [Tx.SetImport], at the end of the import. The access to the source is deleted.
func (tx *Tx) EndImport(i Import) error {
	tx.Changed(ImportTopic, "")
	return tx.one("write import "+i.ID, `UPDATE imports SET state = $3, status = $4, ended_at = $5, secret = ''
		WHERE id = $1 AND number = $2 AND ended_at = 0`,
		i.ID, i.Number, i.State, string(i.Status), millis(i.EndedAt))
}

// TrimImports deletes imports that ended before a time, or that are not among the latest.
func (tx *Tx) TrimImports(before time.Time, latest int) error {
	return tx.do("delete old imports", `DELETE FROM imports WHERE ended_at <> 0 AND (ended_at < $1 OR
		number <= (SELECT number FROM imports ORDER BY number DESC LIMIT 1 OFFSET $2))`, millis(before), latest)
}
