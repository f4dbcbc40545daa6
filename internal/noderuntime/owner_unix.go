//go:build !windows

package noderuntime

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ownerOf returns the user and the group of a file.
func ownerOf(info fs.FileInfo) (uid, gid int) {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid), int(stat.Gid)
	}
	return os.Geteuid(), os.Getegid()
}

// changeOwner sets the user and the group of a file or link, if they differ: only root may
// give files away.
func changeOwner(path string, uid, gid int) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if u, g := ownerOf(info); u == uid && g == gid {
		return nil
	}
	return os.Lchown(path, uid, gid)
}

// tryLock locks a file, which the end of the process unlocks. It reports whether it did: not
// if another process has the lock.
func tryLock(f *os.File) (bool, error) {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
