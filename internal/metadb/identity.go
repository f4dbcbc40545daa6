package metadb

import (
	"context"
	"errors"
	"strings"
)

// An Identity says which instance a database belongs to. A new or empty database has the zero
// value.
type Identity struct {
	Instance string // the instance's id
	Used     bool   // it has the id or the role of an instance, an operator, or a repository
	Blobs    bool   // it has the row of a blob
	Store    BlobStore
}

// A BlobStore says where the files of a database's blobs are. The zero value says nothing.
type BlobStore struct {
	Mark     string // of the blob store
	Location string // where it was at the last start, for people
}

// Settings that identify the instance.
const (
	SettingInstance = "instance-id"
	SettingRole     = "role" // "root", or "connected-registry NAME"
)

// settingStore is the setting with the [BlobStore]: its mark, a space and its location.
const settingStore = "blob-store"

// Identify returns the identity of a database, which another process may use. It changes nothing. If
// there is no database, the result is the zero value.
func Identify(ctx context.Context, o Options) (id Identity, err error) {
	db := &DB{together: o.Ownership == Together}
	if db.dialect, err = parse(o.URL); err != nil {
		return id, err
	}
	if isNew, err := db.dialect.isNew(); isNew || err != nil {
		return id, wrap(err, "open database")
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.openWithReserve(ctx, o); err != nil {
		return id, wrap(err, "open database")
	}
	id, err = db.identity(ctx)
	return id, wrap(err, "open database")
}

// identity reads the database's identity, also before the database is migrated. The error is
// [ErrNewer] or [ErrOtherSchema] if this program cannot migrate it.
func (db *DB) identity(ctx context.Context) (Identity, error) {
	return Read(ctx, db, func(tx *Tx) (id Identity, err error) {
		version, err := tx.schemaVersion(db)
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
	if err == nil {
		id.Store, err = tx.BlobStore()
	}
	return id, err
}

// BlobStore says where the files of the blobs are.
func (tx *Tx) BlobStore() (BlobStore, error) {
	text, err := tx.Setting(settingStore)
	mark, location, _ := strings.Cut(text, " ")
	return BlobStore{mark, location}, err
}

// SetBlobStore records where the files of the blobs are.
func (tx *Tx) SetBlobStore(s BlobStore) error {
	return tx.SetSetting(settingStore, s.Mark+" "+s.Location)
}
