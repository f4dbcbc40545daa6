package metadb_test

import (
	"errors"
	"slices"
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// A newer program migrates the database beside this one, and says whether it may go on.
func TestProcessGoesOnBesideACompatibleNewerSchema(t *testing.T) {
	t.Parallel()
	newest := metadb.Versions()
	for oldest, allowed := range map[int]bool{newest: true, newest + 1: false} {
		url := dbtest.PostgresURL(t)
		db := openWith(t, metadb.Options{URL: url, Ownership: metadb.Together})
		db.Share()
		_, f := follow(t, db)
		got := names(f)
		if err := db.MigrateOn(t.Context(), oldest, `ALTER TABLE tags ADD COLUMN more TEXT`); err != nil {
			t.Fatal(err)
		}
		err := f.CatchUp(t.Context())
		if (err == nil) != allowed || !allowed && !errors.Is(err, metadb.ErrNewer) {
			t.Errorf("a running process, with %d of %d: %v", oldest, newest, err)
		}
		if !allowed {
			if err := f.Run(t.Context()); !errors.Is(err, metadb.ErrNewer) {
				t.Errorf("a running process goes on: %v", err)
			}
		}
		update(t, db, touch("a"))
		if err := f.CatchUp(t.Context()); (err == nil) != allowed || allowed != slices.Equal(got(), []string{"a"}) {
			t.Errorf("changes after the migration: %v", err)
		}
		for _, o := range []metadb.Ownership{metadb.Together, metadb.Alone} {
			if o == metadb.Alone {
				db.Close()
			}
			other, err := metadb.OpenWith(t.Context(), metadb.Options{URL: url, Ownership: o})
			want := allowed && o == metadb.Together
			if (err == nil) != want || !want && !errors.Is(err, metadb.ErrNewer) {
				t.Errorf("a process that starts, %d, with %d of %d: %v", o, oldest, newest, err)
			}
			if err == nil {
				other.Close()
			}
		}
	}
}

// Whatever migration comes next, programs of the version before must be able to run beside it.
func TestVersionBeforeMayRunBesideThisOne(t *testing.T) {
	db := dbtest.SQLite(t)
	oldest, err := metadb.Read(t.Context(), db, func(tx *metadb.Tx) (string, error) {
		return tx.Setting("compatible-from")
	})
	if err != nil || oldest != "6" {
		t.Errorf("the oldest version is %q, %v", oldest, err)
	}
}
