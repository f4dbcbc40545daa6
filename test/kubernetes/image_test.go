//go:build kubernetes

package kubernetes

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"

	"ferry/test/image"
	"ferry/test/instance"
)

// pause builds a static program that waits, and returns its path.
func pause(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "pause")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "./testdata/pause")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0")
	if _, err := instance.Output(cmd); err != nil {
		t.Fatal(err)
	}
	return path
}

// programImage makes an image that runs program, with a layer of random bytes.
func programImage(t *testing.T, tag, program string, seed uint64) *image.Image {
	t.Helper()
	return image.New(t, image.Options{
		Seed: seed, Tag: tag, Layers: []int64{100_000}, Arch: runtime.GOARCH, Program: program,
	})
}
