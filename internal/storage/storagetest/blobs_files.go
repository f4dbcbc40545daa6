//go:build !s3

package storagetest

import (
	"testing"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage/blob"
)

// Blobs returns the blob store in dir: files, or, with the tag s3, an object store.
func Blobs(t testing.TB, dir string) blob.Store { return Files(t, dir) }

// Database returns a fresh database for the blobs: SQLite or, with the tag s3, PostgreSQL.
func Database(t testing.TB) *metadb.DB { return dbtest.SQLite(t) }

// OnlyFiles skips a test that looks at files, if the blob store has none.
func OnlyFiles(testing.TB) {}
