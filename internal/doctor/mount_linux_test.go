package doctor

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// mountMemory mounts a file system in memory at dir, or changes the options of one.
func mountMemory(dir, options string) error {
	flags := uintptr(0)
	if rest, ok := strings.CutPrefix(options, "remount,ro"); ok {
		flags, options = unix.MS_REMOUNT|unix.MS_RDONLY, rest
	}
	return unix.Mount("tmpfs", dir, "tmpfs", flags, options)
}

func unmount(t *testing.T, dir string) {
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		t.Error(err)
	}
}
