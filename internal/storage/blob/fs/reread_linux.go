package fs

import "golang.org/x/sys/unix"

// forget drops what the system remembers of a file. It need not heed that: then an old copy
// is read, and the next time may find more.
func (f reread) forget() { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
