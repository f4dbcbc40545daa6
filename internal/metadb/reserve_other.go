//go:build !linux

package metadb

import "os"

// allocate takes disk space for the file.
func allocate(f *os.File, size int64) error { return fill(f, size) }
