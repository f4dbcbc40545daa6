package faultnet

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
)

// With a timer that is due at once, this crashes under the race detector; see [conn.sleep].
func TestServersWriteConcurrentlyWithAFakeClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const servers, writes = 8, 30_000
		n, p := New(1), NewPipe()
		defer p.Close()
		l := n.Listen(p)
		var work sync.WaitGroup
		for range servers {
			work.Go(func() {
				c, err := l.Accept()
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				for range writes {
					c.Write([]byte{1})
				}
			})
			work.Go(func() {
				c, err := p.Dial(t.Context(), "", "")
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if got, err := io.Copy(io.Discard, c); got != writes || err != nil {
					t.Errorf("%d bytes came, %v; want %d", got, err, writes)
				}
			})
		}
		work.Wait()
	})
}
