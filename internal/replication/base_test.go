//go:build !s3

package replication_test

import "testing"

// newBase returns where the parent of a random history keeps its content; with the tag s3, in PostgreSQL and
// an object store.
func newBase(testing.TB) *base { return nil }
