//go:build bench

package bench

import (
	"os"
	"path/filepath"
	"testing"
)

// tool returns the path of a program in .tools.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../.tools", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not installed: make tools", name)
	}
	return path
}
