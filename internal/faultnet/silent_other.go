//go:build !linux

package faultnet

import (
	"errors"
	"net/netip"
)

// Silent returns [errors.ErrUnsupported]: how to fill a listener's queue is known only for Linux.
func Silent() (address netip.AddrPort, closed func(), err error) {
	return address, nil, errors.ErrUnsupported
}
