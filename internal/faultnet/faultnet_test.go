package faultnet

import (
	"bytes"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// send makes a server send content over n. It returns the bytes that arrived, and the error that
// ended the reading.
func send(t *testing.T, n *Network, content []byte) ([]byte, error) {
	t.Helper()
	p := NewPipe()
	defer p.Close()
	defer n.Cut()
	l := n.Listen(p)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		c.Read(make([]byte, 1))
		c.Write(content)
	}()
	c, err := p.Dial(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte{0}); err != nil {
		return nil, err
	}
	c.SetReadDeadline(time.Now().Add(time.Hour))
	return io.ReadAll(c)
}

func TestFaultsFollowTheirRateAndTheSeed(t *testing.T) {
	content := bytes.Repeat([]byte{7}, 1<<20)
	for _, test := range []struct {
		name   string
		faults Faults
		check  func(t *testing.T, got []byte, err error, took time.Duration)
	}{
		{"none", Faults{}, func(t *testing.T, got []byte, err error, took time.Duration) {
			if !bytes.Equal(got, content) || err != nil || took != 0 {
				t.Errorf("%d bytes, %v, after %v", len(got), err, took)
			}
		}},
		{"cut", Faults{CutEvery: 1000}, func(t *testing.T, got []byte, err error, took time.Duration) {
			if len(got) > 2000 || !bytes.HasPrefix(content, got) {
				t.Errorf("%d bytes came", len(got))
			}
		}},
		{"stall", Faults{StallEvery: 1000}, func(t *testing.T, got []byte, err error, took time.Duration) {
			if len(got) > 2000 || took != time.Hour {
				t.Errorf("%d bytes came, %v, after %v", len(got), err, took)
			}
		}},
		{"corrupt", Faults{CorruptEvery: 100 << 10}, func(t *testing.T, got []byte, err error, took time.Duration) {
			wrong := 0
			for i := range got {
				if got[i] != content[i] {
					wrong++
				}
			}
			if len(got) != len(content) || wrong < 5 || wrong > 40 {
				t.Errorf("%d of %d bytes are wrong", wrong, len(got))
			}
		}},
		{"rate and delay", Faults{Rate: 1 << 18, Delay: time.Second},
			func(t *testing.T, got []byte, err error, took time.Duration) {
				if !bytes.Equal(got, content) || took.Round(time.Millisecond) != 5*time.Second {
					t.Errorf("%d bytes, %v, after %v; want 5 s", len(got), err, took)
				}
			}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var first []byte
			for range 2 {
				synctest.Test(t, func(t *testing.T) {
					n := New(1)
					n.Set(test.faults)
					start := time.Now()
					got, err := send(t, n, content)
					test.check(t, got, err, time.Since(start))
					if first == nil {
						first = got
					}
					if !bytes.Equal(got, first) {
						t.Errorf("the same seed brought %d bytes, then %d", len(first), len(got))
					}
				})
			}
		})
	}
}

func TestDownNetworkCutsAndRefuses(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := New(1)
	l := n.Listen(inner)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := dial()
	defer (<-accepted).Close()
	n.SetDown(true)
	for _, c := range []net.Conn{c, dial()} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection works on a network that is down")
		}
	}
	n.SetDown(false)
	c = dial()
	s := <-accepted
	defer s.Close()
	go s.Write([]byte("up"))
	if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
		t.Error(err)
	}
}
