package mirror_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// runError passes the rule's error to look.
func runError(t *testing.T, look func(why string)) func(*metadb.Tx) error {
	t.Helper()
	return func(tx *metadb.Tx) error {
		row, err := tx.MirrorRule("r")
		look(row.Error)
		return err
	}
}

func askRule(tx *metadb.Tx) error { return tx.RequestMirrorRun("r", time.Now()) }

func deleteRule(tx *metadb.Tx) error {
	if err := mirror.Forget(tx, "r"); err != nil {
		return err
	}
	return tx.DeleteMirrorRule("r")
}

// noItems fails the test if the database has items of the rule.
func noItems(t *testing.T) func(*metadb.Tx) error {
	t.Helper()
	return func(tx *metadb.Tx) error {
		items, err := tx.SyncItems(mirror.SourceName("r"), metadb.AnySyncItem, "", "", 10)
		if len(items) > 0 {
			t.Errorf("items of a deleted rule: %v", items)
		}
		return err
	}
}
