//go:build !s3

package storagetest

import (
	"testing"

	"ferry/internal/storage/blob"
)

// Blobs returns the blob store in dir: files, or, with the tag s3, an object store.
func Blobs(t testing.TB, dir string) blob.Store { return Files(t, dir) }

// OnlyFiles skips a test that looks at files, if the blob store has none.
func OnlyFiles(testing.TB) {}
