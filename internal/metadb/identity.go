package metadb

import "context"

// An Identity says which instance a database belongs to. A new or empty database has the zero
// value.
type Identity struct {
	Instance string // the instance's id
	Used     bool   // it has the id or the role of an instance, an operator, or a repository
	Blobs    bool   // it has the row of a blob
}

// Settings that identify the instance.
const (
	SettingInstance = "instance-id"
	SettingRole     = "role" // "root", or "connected-registry NAME"
)

// identity reads the database's identity, also before the database is migrated. The error is
// [ErrNewer] or [ErrOtherSchema] if this program cannot migrate it.
func (db *DB) identity(ctx context.Context) (Identity, error) {
	return Read(ctx, db, func(tx *Tx) (id Identity, err error) {
		version, err := tx.schemaVersion(db.dialect)
		if err != nil || version == 0 {
			return id, err
		}
		return tx.Identity()
	})
}

// Identity returns the identity of the database.
func (tx *Tx) Identity() (id Identity, err error) {
	if id.Instance, err = tx.Setting(SettingInstance); err == nil {
		id.Blobs, err = get[bool](tx, "read identity", `SELECT EXISTS (SELECT 1 FROM blobs)`)
	}
	if err == nil {
		id.Used, err = get[bool](tx, "read identity",
			`SELECT EXISTS (SELECT 1 FROM settings WHERE name IN ($1, $2) AND value <> '')
			OR EXISTS (SELECT 1 FROM operators) OR EXISTS (SELECT 1 FROM repositories)`, SettingInstance, SettingRole)
	}
	return id, err
}
