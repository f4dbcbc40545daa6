//go:build !linux

package fs

// forget does nothing: other systems have no such call.
func (f reread) forget() {}
