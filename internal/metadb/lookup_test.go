package metadb_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// TestQueriesOfOneManifestReadNoOther is about queries that a listing and a collection run for
// each manifest of a repository, and each poll of a child.
func TestQueriesOfOneManifestReadNoOther(t *testing.T) {
	const many = 10_000
	db, now := dbtest.SQLite(t), time.Now()
	name := func(i int) string { return fmt.Sprintf("sha256:%064d", i) }
	update(t, db, func(tx *metadb.Tx) error {
		for i := range many {
			m := metadb.Manifest{Repository: "app", Digest: digest.Digest(name(i)), Subject: digest.Digest(name(i + 1)),
				Annotations: "{}", Payload: []byte("{}"), PushedAt: now}
			if _, err := tx.PutManifest(m, []metadb.Child{{Digest: name(i + 2), Manifest: true}}); err != nil {
				return err
			}
			if err := tx.SetTag("app", fmt.Sprint("v", i), name(i), 1, now); err != nil {
				return err
			}
			item := metadb.SyncItem{Repository: "app", Item: name(i), Digest: name(i), State: "synced", ChangedAt: now}
			if err := tx.PutSyncItem(item); err != nil {
				return err
			}
		}
		return nil
	})
	last := name(many - 1)
	view(t, db, func(tx *metadb.Tx) error {
		fastest := func(ask func() error) time.Duration {
			best := time.Hour
			for range 20 {
				start := time.Now()
				if err := ask(); err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Since(start))
			}
			return best
		}
		usual := fastest(func() error { _, err := tx.HasManifest("app", last); return err })
		for action, ask := range map[string]func() error{
			"TagsOf":          func() error { _, err := tx.TagsOf("app", last); return err },
			"ParentOf":        func() error { _, err := tx.ParentOf("app", last); return err },
			"Referrers":       func() error { _, err := tx.Referrers("app", last, "", "", 10); return err },
			"ReferrerDigests": func() error { _, err := tx.ReferrerDigests("app", last); return err },
			"IsSubject":       func() error { _, err := tx.IsSubject("app", last); return err },
			"HasReferrers":    func() error { _, err := tx.HasReferrers("app"); return err },
			"NeverReferenced": func() error { _, err := tx.NeverReferenced("app", last); return err },
			"IsUnreferenced":  func() error { _, err := tx.IsUnreferenced("app", last); return err },
			"HasSyncItemOf":   func() error { _, err := tx.HasSyncItemOf("app", last); return err },
			"HeldSyncItems":   func() error { _, err := tx.HeldSyncItems(50); return err },
		} {
			if took := fastest(ask); took > 10*usual {
				t.Errorf("%s takes %v, where HasManifest takes %v", action, took, usual)
			}
		}
		return nil
	})
}
