package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Ferry makes the image of Ferry from a program, and returns its OCI image layout, in which
// version is the tag. All platforms have the same program.
func Ferry(t testing.TB, program, version string) string {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, arch := range []string{"amd64", "arm64", "arm"} {
		if err := errors.Join(os.WriteFile(filepath.Join(bin, "ferry-linux-"+arch), text, 0o600),
			os.WriteFile(filepath.Join(bin, arch+".cdx.json"), []byte("{}"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := os.MkdirTemp("", "image-") // some clients do not support long paths
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	layout := filepath.Join(dir, "layout")
	cmd := exec.Command("go", "run", "./build/image", "-bin", bin, "-out", layout, "-version", version,
		"-time", "1700000000")
	cmd.Dir = "../.."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make the image of Ferry: %v: %s", err, out)
	}
	return layout
}
