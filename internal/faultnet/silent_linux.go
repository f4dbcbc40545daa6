package faultnet

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// maxQueue is more connections than the queue of a listener without a backlog has room for.
const maxQueue = 10

// Silent returns an address on loopback that neither accepts nor refuses connections, until
// closed is called: the queue of its listener is full.
func Silent() (address netip.AddrPort, closed func(), err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return address, nil, err
	}
	var queue []net.Conn
	closeAll := func() {
		for _, c := range queue {
			c.Close()
		}
		unix.Close(fd)
	}
	defer func() {
		if err != nil {
			closeAll()
		}
	}()
	loopback := [4]byte{127, 0, 0, 1}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: loopback}); err != nil {
		return address, nil, err
	}
	if err := unix.Listen(fd, 0); err != nil {
		return address, nil, err
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		return address, nil, err
	}
	address = netip.AddrPortFrom(netip.AddrFrom4(loopback), uint16(at.(*unix.SockaddrInet4).Port))
	for range maxQueue {
		c, err := net.DialTimeout("tcp", address.String(), 200*time.Millisecond)
		if err != nil {
			return address, closeAll, nil
		}
		queue = append(queue, c)
	}
	return address, nil, errors.New("the queue of connections does not become full")
}
