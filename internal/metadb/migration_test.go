package metadb_test

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"ferry/internal/metadb"
)

// openAt opens a new database of an earlier version.
func openAt(t *testing.T, address string, version int) *metadb.DB {
	t.Helper()
	db, err := metadb.OpenAt(t.Context(), address, version)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// payload returns a manifest's payload of a size.
func payload(size int) []byte {
	var b bytes.Buffer
	for n := 0; b.Len() < size; n++ {
		fmt.Fprintln(&b, n)
	}
	return append([]byte{}, b.Bytes()[:size]...)
}

// addManifest adds a manifest to a database of version 1.
func addManifest(t *testing.T, db *metadb.DB, digest string, payload []byte) {
	t.Helper()
	err := db.Exec(t.Context(), `INSERT INTO manifests
		(repository, digest, media_type, artifact_type, subject, annotations, payload, pushed_at, locks, damaged)
		VALUES ('a', $1, 'm', '', '', '{}', $2, 7, 2, 1)`, digest, payload)
	if err != nil {
		t.Fatal(err)
	}
}

// storedPayload returns a manifest's payload, from its row or its chunks.
func storedPayload(t *testing.T, db *metadb.DB, digest string) (b []byte) {
	t.Helper()
	view(t, db, func(tx *metadb.Tx) error {
		m, err := tx.Manifest("a", digest)
		if err != nil || m.Size <= metadb.MaxInRow {
			b = m.Payload
			return err
		}
		for n := 0; ; n++ {
			b, err = tx.AppendManifestChunk(b, "a", digest, n)
			if errors.Is(err, metadb.ErrNotFound) {
				break
			}
			if err != nil {
				return err
			}
		}
		if m.Size != int64(len(b)) || !m.Damaged || m.Locks != 2 || m.PushedAt.UnixMilli() != 7 {
			t.Errorf("manifest of %d bytes became %+v", len(b), m)
		}
		return nil
	})
	return b
}

func TestEveryVersionHasItsColumns(t *testing.T) {
	for version := 1; version <= metadb.Versions(); version++ {
		urls(t, func(t *testing.T, address, _, _ string) {
			got, err := openAt(t, address, version).Columns(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if want := metadb.ColumnsOf(version); got != want {
				t.Errorf("version %d has the columns %q, columnsOf says %q", version, got, want)
			}
		})
	}
}

func TestLargeManifestsMoveToChunks(t *testing.T) {
	sizes := []int{0, 1, metadb.MaxInRow, metadb.MaxInRow + 1, 5 * metadb.ChunkSize, 4 << 20}
	urls(t, func(t *testing.T, address, _, _ string) {
		old := openAt(t, address, 1)
		for _, size := range sizes {
			addManifest(t, old, fmt.Sprint(size), payload(size))
		}
		old.Close()
		db := open(t, address)
		for _, size := range sizes {
			if got := storedPayload(t, db, fmt.Sprint(size)); !bytes.Equal(got, payload(size)) {
				t.Errorf("the payload of %d bytes became %d other bytes", size, len(got))
			}
		}
	})
}

func TestKeysOfStoredJSONAreRenamed(t *testing.T) {
	const (
		state = `{"self":{"name":"\"left\":"},"whole":{"f":1},"heard":"t","trouble":{},` +
			`"left":[{"Items":["heard"],"Left":-1}]}`
		wantState = `{"self":{"name":"\"left\":"},"watermarks":{"f":1},"lastAnswer":"t","problem":{},` +
			`"inFlight":[{"Items":["heard"],"TimeLeft":-1}]}`
		report     = `{"status":{"open":[{"tag":"open"}],"lastRefused":{"from":"from","why":"why"}}}`
		wantReport = `{"status":{"outOfSync":[{"tag":"open"}],"lastRefused":{"sender":"from","reason":"why"}}}`
	)
	urls(t, func(t *testing.T, address, _, _ string) {
		old := openAt(t, address, 1)
		for query, value := range map[string]string{
			`INSERT INTO settings (name, value) VALUES ('connected-registry', $1), ('other', '"left":')`: state,
			`INSERT INTO connected_registries
				(name, parent, sync_token, spec, status, instance_id, created_at, version)
				VALUES ('s', '', 's', '{}', $1, '', 1, 1)`: report,
		} {
			if err := old.Exec(t.Context(), query, value); err != nil {
				t.Fatal(err)
			}
		}
		old.Close()
		view(t, open(t, address), func(tx *metadb.Tx) error {
			got, err := tx.Setting("connected-registry")
			other, err2 := tx.Setting("other")
			if got != wantState || other != `"left":` {
				t.Errorf("the settings became %s and %s", got, other)
			}
			r, err3 := tx.ConnectedRegistry("s")
			if string(r.Status) != wantReport {
				t.Errorf("the report became %s", r.Status)
			}
			return errors.Join(err, err2, err3)
		})
	})
}

func TestFailedMigrationChangesNothing(t *testing.T) {
	urls(t, func(t *testing.T, address, _, _ string) {
		old := openAt(t, address, 1)
		addManifest(t, old, "d", []byte("payload"))
		old.Close()
		_, err := metadb.OpenAt(t.Context(), address, metadb.Versions(), `DROP TABLE blobs`, `DROP TABLE nonsense`)
		if err == nil {
			t.Fatal("the migration did not fail")
		}
		view(t, open(t, address), func(tx *metadb.Tx) error {
			m, err := tx.Manifest("a", "d")
			if string(m.Payload) != "payload" {
				t.Errorf("after the failure, the payload is %q", m.Payload)
			}
			return err
		})
	})
}

func TestProgramsThatStartTogetherMigrateOnce(t *testing.T) {
	large := payload(metadb.MaxInRow + 1)
	urls(t, func(t *testing.T, address, _, _ string) {
		old := openAt(t, address, 1)
		addManifest(t, old, "d", large)
		old.Close()
		openTogether(t, address)
		if got := storedPayload(t, open(t, address), "d"); !bytes.Equal(got, large) {
			t.Errorf("the payload became %d other bytes", len(got))
		}
	})
}

// TestChangedFirstMigrationCountsAsTheSecond opens a database of builds that changed
// the first migration in place, until it had the columns of version 2.
func TestChangedFirstMigrationCountsAsTheSecond(t *testing.T) {
	urls(t, func(t *testing.T, address, _, _ string) {
		preview := openAt(t, address, 2)
		if err := preview.Exec(t.Context(), `DELETE FROM goose_db_version WHERE version_id = 2`); err != nil {
			t.Fatal(err)
		}
		err := preview.Exec(t.Context(), `INSERT INTO manifests
			(repository, digest, media_type, artifact_type, subject, annotations, payload, size, pushed_at)
			VALUES ('a', 'd', 'm', '', '', '{}', $1, 7, 7)`, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		preview.Close()
		for range 2 {
			db := open(t, address)
			if got := storedPayload(t, db, "d"); string(got) != "payload" {
				t.Errorf("the payload became %q", got)
			}
			db.Close()
		}
	})
}
