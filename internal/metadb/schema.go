package metadb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/pressly/goose/v3"
)

// ErrOtherSchema is returned, wrapped, by [Open] for a database whose tables were created by
// migrations other than this program's: those of another build before the first release.
// Nothing was changed.
var ErrOtherSchema = errors.New("another build of ferry created the database, and its tables differ")

// settingSchema is the setting with the hash of the migrations that created the tables.
const settingSchema = "schema"

// schemaHash returns a hash of the migrations up to a version, without comments and white
// space.
func schemaHash(m *goose.Provider, version int64) (string, error) {
	h := sha256.New()
	for _, source := range m.ListSources() {
		if source.Version > version {
			continue
		}
		text, err := migrations.ReadFile("migrations/" + path.Base(source.Path))
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(text)) {
			statement, _, _ := strings.Cut(line, "--")
			io.WriteString(h, strings.Join(strings.Fields(statement), " "))
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// checkSchema refuses a schema that is newer than this program's, or that other migrations
// created.
func (db *DB) checkSchema(ctx context.Context, m *goose.Provider) error {
	version, err := m.GetDBVersion(ctx)
	if err != nil {
		return firstError(err)
	}
	sources := m.ListSources()
	if known := sources[len(sources)-1].Version; version > known {
		return fmt.Errorf("schema version %d, this program knows %d: %w", version, known, ErrNewer)
	}
	got, err := Read(ctx, db, func(tx *Tx) (string, error) { return tx.Setting(settingSchema) })
	if err != nil {
		return err
	}
	want, err := schemaHash(m, version)
	if err != nil || got == want {
		return err
	}
	id, err := Read(ctx, db, (*Tx).Identity)
	if got == "" && err == nil && id == (Identity{}) {
		return nil // the first start ended before [DB.migrate] wrote the hash
	}
	return ErrOtherSchema
}

// migrate brings the schema up to this program's version, and writes its hash.
func (db *DB) migrate(ctx context.Context, m *goose.Provider) error {
	applied, err := m.Up(ctx)
	if err != nil {
		return firstError(err)
	}
	version, err := m.GetDBVersion(ctx)
	if err != nil {
		return firstError(err)
	}
	hash, err := schemaHash(m, version)
	if err != nil {
		return err
	}
	known, err := Read(ctx, db, func(tx *Tx) (string, error) { return tx.Setting(settingSchema) })
	if err != nil || known == hash && len(applied) == 0 {
		return err
	}
	return db.Update(ctx, func(tx *Tx) error { return tx.SetSetting(settingSchema, hash) })
}

// firstError returns the error that made goose fail. Goose joins it with the error that the
// transaction is over, which is only a consequence.
func firstError(err error) error {
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		switch e := inner.(type) {
		case *goose.PartialError:
			return firstError(e.Err)
		case interface{ Unwrap() []error }:
			return firstError(e.Unwrap()[0])
		}
	}
	return err
}
