//go:build !windows

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Limits of a disk, below which it is reported.
const (
	reserve     = 64 << 20 // bytes: for the database, its log, and what clients push
	fewBytes    = 10       // percent of the disk
	fewFiles    = 5        // percent of the inodes
	slowFsync   = 500 * time.Millisecond
	diskTimeout = 15 * time.Second
)

// checkDirectory checks that the directory exists, and that other users cannot write to it.
func checkDirectory(dir string) Finding {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("the data directory %s does not exist", dir).
			hint("ferry serve makes it at its first start; if it ran already, a volume may not be mounted")
	case errors.Is(err, fs.ErrPermission):
		return fail("this user may not look into %s", dir).
			hint("run the command as the user that ferry serve runs as, or as root")
	case err != nil:
		return fail("the data directory cannot be read: %s", sentence(err)).hint("check the disk and its mount")
	case !info.IsDir():
		return fail("%s is no directory", dir).hint("give the path of a directory with --data-dir")
	case info.Mode().Perm()&0o022 != 0:
		return warn("other users may write to %s", dir).hint("chmod go-w %s", dir)
	}
	return ok("%s is there", dir)
}

// checkDisk checks the space of the directory's disk.
func checkDisk(dir string) Finding {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fail("the space of the disk is not known: %s", sentence(err)).hint("check the disk and its mount")
	}
	size := uint64(st.Bsize) //nolint:unconvert // its type differs between systems
	return judgeDisk(space{
		free: size * uint64(st.Bavail), total: size * st.Blocks,
		freeFiles: uint64(st.Ffree), totalFiles: uint64(st.Files),
	})
}

// A space is the room on a disk.
type space struct{ free, total, freeFiles, totalFiles uint64 }

func judgeDisk(s space) Finding {
	const remedy = "delete images and collect garbage, keep fewer with --keep-last, or enlarge the disk"
	percent := func(part, whole uint64) uint64 { return part * 100 / max(whole, 1) }
	free := fmt.Sprintf("%s of %s free", bytesText(s.free), bytesText(s.total))
	switch {
	case s.free < reserve:
		return fail("the disk is full: %s, less than the %s that are kept for the database", free,
			bytesText(reserve)).hint(remedy)
	case s.totalFiles > 0 && s.freeFiles == 0:
		return fail("the disk has no inode left, so no file can be made").
			hint("delete files, or use another file system")
	case percent(s.free, s.total) < fewBytes:
		return warn("the disk is nearly full: %s", free).hint(remedy)
	case s.totalFiles > 0 && percent(s.freeFiles, s.totalFiles) < fewFiles:
		return warn("the disk has few inodes left: %d of %d", s.freeFiles, s.totalFiles).
			hint("delete files, or use a file system with more inodes")
	}
	return ok("%s", free)
}

// probeFile is the name of the file that the check of a disk writes and removes.
const probeFile = "doctor-probe"

// checkWrite writes a file to the directory, makes it durable, and removes it.
func checkWrite(ctx context.Context, dir string) Finding {
	path := filepath.Join(dir, fmt.Sprintf(".%s-%d", probeFile, os.Getpid()))
	start := time.Now()
	err := writeProbe(path)
	took := time.Since(start)
	err = errors.Join(err, removeIfThere(path))
	switch {
	case err == nil && took > slowFsync:
		return warn("the disk needs %s to make a small file durable", rounded(took)).
			hint("is another program writing, or is this a worn card? Each push and each sync waits for it")
	case err == nil:
		return ok("a small file is durable within %s", rounded(took))
	case errors.Is(err, syscall.EROFS):
		return fail("the disk is read-only").
			hint("mount it for writing; after errors a system mounts a disk read-only: see dmesg")
	case errors.Is(err, fs.ErrPermission):
		return fail("this user may not write to the data directory").
			hint("run the command as the user that ferry serve runs as, or as root; or change the directory's owner")
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fail("the disk is full: a file of 4 KiB does not fit").hint("make room on the disk, or raise the quota")
	case errors.Is(err, syscall.EIO):
		return fail("the disk has errors: %s", sentence(err)).hint("see dmesg; replace the disk")
	}
	return fail("a file cannot be written: %s", sentence(err)).hint("check the disk and its mount")
}

// writeProbe writes a new file and its directory's entry durably.
func writeProbe(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, 4<<10))
	return errors.Join(err, f.Sync(), f.Close())
}

func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) &&
		!errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
		return err
	}
	return nil
}
