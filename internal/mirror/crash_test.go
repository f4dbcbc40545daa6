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
		h := stoppedHere(t)
		u := h.upstream
		old := u.image("app", "old", 10, "1")
		stop := h.start(t)
		h.rule(mirror.Spec{})
		h.await(time.Time{})
		stop()
		h.update(func(tx *metadb.Tx) error { // as a kill leaves it
			return tx.PutSyncItem(metadb.SyncItem{
				Source: "import/abc", Repository: "local/app", Item: string(old), Digest: string(old), State: "pending",
				ChangedAt: time.Now(),
			})
		})
		h.service(t)
		h.start(t)
		u.image("app", "new", 10, "1")
		if row := h.ask(); row.Error != "" {
			t.Error(row.Error)
		}
		if h.has("local/app", old) {
			t.Error("the image of a tag that moved is here for an import that nobody waits for")
		}
	})
}
