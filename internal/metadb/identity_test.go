package metadb_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

var errNotMine = errors.New("not mine")

func TestRefusedDatabaseIsUnchanged(t *testing.T) {
	refuse := func(want metadb.Identity) func(metadb.Identity) error {
		return func(got metadb.Identity) error {
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
			return errNotMine
		}
	}
	t.Run("no SQLite file", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "ferry.db")
		_, err := metadb.OpenWith(t.Context(), metadb.Options{
			URL: "sqlite:" + path, Accept: refuse(metadb.Identity{}),
		})
		if !errors.Is(err, errNotMine) {
			t.Errorf("OpenWith = %v, want %v", err, errNotMine)
		}
		if found, err := os.ReadDir(filepath.Dir(path)); len(found) > 0 || err != nil {
			t.Errorf("it made %v, %v", found, err)
		}
	})
	t.Run("empty PostgreSQL", func(t *testing.T) {
		url := dbtest.PostgresURL(t)
		_, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Accept: refuse(metadb.Identity{})})
		if !errors.Is(err, errNotMine) {
			t.Errorf("OpenWith = %v, want %v", err, errNotMine)
		}
		raw, err := sql.Open("pgx", url)
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		var tables int
		err = raw.QueryRowContext(t.Context(),
			`SELECT COUNT(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&tables)
		if tables != 0 || err != nil {
			t.Errorf("it made %d tables, %v", tables, err)
		}
	})
}

func TestDatabaseHasAnIdentity(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		for _, step := range []struct {
			write func(*metadb.Tx) error
			want  metadb.Identity
		}{
			{func(*metadb.Tx) error { return nil }, metadb.Identity{}},
			{func(tx *metadb.Tx) error { return tx.SetSetting("another", "x") }, metadb.Identity{}},
			{func(tx *metadb.Tx) error { return tx.TouchRepository("a", epoch) }, metadb.Identity{Used: true}},
			{func(tx *metadb.Tx) error { return tx.SetSetting(metadb.SettingInstance, "i") },
				metadb.Identity{Instance: "i", Used: true}},
			{func(tx *metadb.Tx) error { return tx.SetBlobStore(metadb.BlobStore{Mark: "m", Location: "s3://b/p"}) },
				metadb.Identity{Instance: "i", Used: true, Store: metadb.BlobStore{Mark: "m", Location: "s3://b/p"}}},
		} {
			update(t, db, step.write)
			view(t, db, func(tx *metadb.Tx) error {
				got, err := tx.Identity()
				if diff := cmp.Diff(step.want, got); diff != "" {
					t.Error(diff)
				}
				return err
			})
		}
	})
}

func TestAnIdentityIsReadBesideAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ferry.db")
	o := metadb.Options{URL: "sqlite:" + path, Ownership: metadb.Unowned}
	if id, err := metadb.Identify(t.Context(), o); id != (metadb.Identity{}) || err != nil {
		t.Errorf("no database is %+v, %v", id, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a database was made: %v", err)
	}
	db, err := metadb.Open(t.Context(), o.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	update(t, db, func(tx *metadb.Tx) error { return tx.SetSetting(metadb.SettingInstance, "i") })
	id, err := metadb.Identify(t.Context(), o)
	if want := (metadb.Identity{Instance: "i", Used: true}); id != want || err != nil {
		t.Errorf("the identity is %+v, %v; want %+v", id, err, want)
	}
}
