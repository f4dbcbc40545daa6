package mirror_test

import (
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

func TestKilledImportKeepsNoOldImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newStoppedInstance(t)
		u := h.upstream
		old := u.image("app", "old", 10, "1")
		stop := h.start(t)
		h.rule(mirror.Spec{})
		h.awaitRun(time.Time{})
		stop()
		h.update(func(tx *metadb.Tx) error { // the state after a kill
			return tx.PutSyncItem(metadb.SyncItem{
				Source: "import/abc", Repository: "local/app", Item: string(old), Digest: string(old), State: "pending",
				ChangedAt: time.Now(),
			})
		})
		h.newService(t)
		h.start(t)
		u.image("app", "new", 10, "1")
		if row := h.runRule(); row.Error != "" {
			t.Error(row.Error)
		}
		if h.has("local/app", old) {
			t.Error("an interrupted import keeps the old image of a moved tag")
		}
	})
}
