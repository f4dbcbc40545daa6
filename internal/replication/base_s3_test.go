//go:build s3

package replication_test

import (
	"testing"

	"ferry/internal/metadb/dbtest"
	"ferry/internal/storage/blob/s3/s3test"
)

// newBase returns where the parent of a random history keeps its content: in PostgreSQL and an object store,
// which the parent may use in a bubble of time.
func newBase(t testing.TB) *base {
	t.Helper()
	return &base{dbtest.PostgresURL(t), s3test.Outside(t, s3test.Start(t).Store(t, ""))}
}
