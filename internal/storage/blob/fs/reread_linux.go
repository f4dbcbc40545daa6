package fs

import "golang.org/x/sys/unix"

// forget asks the system to drop its copy of a file. It may ignore that: then the check reads
// the old copy, and the next check may find damage.
func (f reread) forget() { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
