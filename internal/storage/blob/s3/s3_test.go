//go:build s3

package s3_test

import (
	"strings"
	"testing"

	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/blobtest"
	"ferry/internal/storage/blob/s3/s3test"
)

func TestStoreFulfilsTheContract(t *testing.T) {
	server := s3test.Start(t)
	blobtest.Run(t, func(t *testing.T) func() blob.Store {
		prefix := strings.ToLower(t.Name())
		return func() blob.Store { return server.Store(t, prefix) }
	})
}

func TestCheckPassesAndLeavesNothing(t *testing.T) {
	s := s3test.Start(t).Store(t, "a/b")
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
}
