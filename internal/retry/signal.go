package retry

import "sync"

// A Signal wakes all that wait for the next event, in [Sleep] for example. The zero value is ready to use.
// It is safe for concurrent use.
type Signal struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next event; nil if nobody waits
}

// Wait returns a channel that the next event closes. A caller that also looks for what has happened must
// call Wait before it looks, so that it misses nothing.
func (s *Signal) Wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// Notify wakes all that wait.
func (s *Signal) Notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}
