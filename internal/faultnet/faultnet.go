// Package faultnet is a network for tests. It cuts, stalls, limits, delays and
// corrupts the bytes that a server sends, as its [Faults] and a seed say. Requests
// are never changed, but a cut ends a connection in both directions.
package faultnet

import (
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Faults are the faults that a network causes in the bytes that servers send. The
// zero value is none. A fault that happens every n bytes on average happens after 1
// to 2n bytes, drawn evenly each time.
type Faults struct {
	CutEvery     int64         // bytes of a connection until it is cut
	StallEvery   int64         // bytes of a connection until no more are sent, while it stays open
	CorruptEvery int64         // bytes of a connection until one bit flips
	Rate         int64         // bytes a second, of all connections together; 0 is no limit
	Delay        time.Duration // before the answer to a request: the round trip
}

// A Network carries connections. It is safe for concurrent use.
type Network struct {
	mu     sync.Mutex
	rng    *rand.Rand
	faults Faults
	epoch  int // counts the calls of Set
	down   bool
	conns  map[*conn]bool
	free   time.Time // when the link will have sent its queue
}

// New returns a network without faults. The seed decides when faults happen.
func New(seed uint64) *Network {
	return &Network{rng: rand.New(rand.NewPCG(seed, 0)), conns: map[*conn]bool{}}
}

// Set replaces the faults, for open connections, too.
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

// SetDown takes the network down, or up again. A network that is down has cut
// every connection, and refuses new ones.
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

// Listen returns a listener that accepts inner's connections through the network.
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

// join adds a connection to the network; nil if that is down.
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
