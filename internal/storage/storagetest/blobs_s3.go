//go:build s3

package storagetest

import (
	"testing"

	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/s3/s3test"
)

// Blobs returns the blob store in dir: files, or, with the tag s3, an object store.
func Blobs(t testing.TB, dir string) blob.Store { return s3test.Serve(t, dir).Store(t, "") }

// OnlyFiles skips a test that looks at files, if the blob store has none.
func OnlyFiles(t testing.TB) { t.Skip("the test looks at files") }
