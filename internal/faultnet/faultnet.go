// Package faultnet is a network for tests: it cuts, stalls, limits, delays
// and corrupts what a server sends, as a seed and its [Faults] say. Requests
// pass unharmed; a connection that is cut is cut in both directions.
package faultnet

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Faults are what a network does to the bytes that servers send. The zero
// value does nothing. Of a fault that happens every n bytes, each time is
// drawn evenly from 1 to 2n.
type Faults struct {
	CutEvery     int64         // bytes of a connection until it is cut
	StallEvery   int64         // bytes of a connection until it moves no more, and stays open
	CorruptEvery int64         // bytes of a connection until a bit of one flips
	Rate         int64         // bytes per second, of all connections together; 0 is no limit
	Delay        time.Duration // before what follows a request: the round trip
}

// A Network is what connections pass. It is safe for concurrent use.
type Network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	epoch  int // counts what was set
	down   bool
	conns  map[*conn]bool
	free   time.Time // when the link has sent what it was given
}

// New returns a network without faults, whose chances come from seed.
func New(seed uint64) *Network {
	return &Network{rng: rand.New(rand.NewPCG(seed, 0)), conns: map[*conn]bool{}}
}

// Set replaces the faults, also of connections that are open.
func (n *Network) Set(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
	n.epoch++
}

// Cut cuts every open connection.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cutAll()
}

// SetDown takes the network down, which cuts every connection and lets new
// ones fail, or up.
func (n *Network) SetDown(down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down = down; down {
		n.cutAll()
	}
}

func (n *Network) cutAll() {
	for c := range n.conns {
		c.cut()
	}
}

// Listen returns a listener whose connections, of inner, pass the network.
func (n *Network) Listen(inner net.Listener) net.Listener { return &listener{inner, n} }

type listener struct {
	net.Listener
	network *Network
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.network.join(c); c != nil {
			return c, nil
		}
	}
}

// join lets a connection pass the network; nil when that is down.
func (n *Network) join(inner net.Conn) net.Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		inner.Close()
		return nil
	}
	c := &conn{Conn: inner, network: n, closed: make(chan struct{}), epoch: -1}
	c.hangUp = sync.OnceFunc(func() { close(c.closed) })
	n.conns[c] = true
	return c
}
