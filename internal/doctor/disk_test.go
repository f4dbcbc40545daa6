//go:build !windows

package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestSpaceOfADiskIsJudged(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		name   string
		space  space
		status Status
		text   string
	}{
		{"half full", space{50 * gib, 100 * gib, 500, 1000}, OK, "50.0 GiB of 100.0 GiB free"},
		{"without inodes", space{50 * gib, 100 * gib, 0, 0}, OK, "free"},
		{"nearly full", space{5 * gib, 100 * gib, 500, 1000}, Warn, "nearly full"},
		{"full", space{1 << 20, 100 * gib, 500, 1000}, Fail, "is full"},
		{"few inodes", space{50 * gib, 100 * gib, 20, 1000}, Warn, "20 of 1000"},
		{"no inode", space{50 * gib, 100 * gib, 0, 1000}, Fail, "no inode"},
	} {
		t.Run(test.name, func(t *testing.T) { expect(t, judgeDisk(test.space), test.status, test.text) })
	}
	expect(t, checkDisk(filepath.Join(t.TempDir(), "nosuch")), Fail, "not known")
}

func TestDataDirectoryIsChecked(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	expect(t, checkDirectory(dir), OK)
	expect(t, checkDirectory(filepath.Join(dir, "nosuch")), Fail, "does not exist")
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, checkDirectory(file), Fail, "no directory")
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	expect(t, checkDirectory(dir), Warn, "chmod go-w")
}

func TestProbeOfTheDiskIsRemoved(t *testing.T) {
	dir := t.TempDir()
	expect(t, checkWrite(t.Context(), dir), OK, "durable")
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// The disk is a small one in memory, which only root can mount.
func TestFullAndReadOnlyDisksAreFound(t *testing.T) {
	dir := t.TempDir()
	if err := mountMemory(dir, "size=64k"); errors.Is(err, syscall.EPERM) {
		t.Skip("only root can mount a disk")
	} else if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unmount(t, dir) })
	expect(t, checkDisk(dir), Fail, "is full")
	if err := os.WriteFile(filepath.Join(dir, "filler"), make([]byte, 1<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk does not become full: %v", err)
	}
	expect(t, checkWrite(t.Context(), dir), Fail, "does not fit")
	if err := mountMemory(dir, "remount,ro"); err != nil {
		t.Fatal(err)
	}
	expect(t, checkWrite(t.Context(), dir), Fail, "read-only")
}
