package fleet

import (
	"strings"
	"sync"
	"time"
)

// maxPollGap is the longest time between an answer to a connected child and its next poll.
const maxPollGap = 15 * time.Second

// connections are the polls of the children since the start, by child in lower case. The zero value
// is ready.
type connections struct {
	mu sync.Mutex
	of map[string]*connection
}

// A connection is the polls of one child.
type connection struct {
	held     int       // the number of polls that are held now
	polls    int       // the number of all polls
	answered time.Time // when the last poll was answered; zero if it ended without an answer
}

// Polling records that a child has sent a poll, and may be answered at any time until end. answered
// reports that the answer was sent, and that the child has not given up the poll.
func (s *Service) Polling(child string) (end func(answered bool)) {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	if s.connections.of == nil || len(s.connections.of) >= s.control.Maxima().ConnectedRegistries {
		s.connections.of = map[string]*connection{}
	}
	c := s.connections.of[strings.ToLower(child)]
	if c == nil {
		c = &connection{}
		s.connections.of[strings.ToLower(child)] = c
	}
	c.held++
	c.polls++
	number := c.polls
	return func(answered bool) {
		s.connections.mu.Lock()
		defer s.connections.mu.Unlock()
		c.held--
		switch {
		case answered:
			c.answered = s.now()
		case number == c.polls:
			c.answered = time.Time{}
		}
	}
}

// isConnected reports whether a child holds a poll, or is between two polls.
func (s *Service) isConnected(child string) bool {
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	c := s.connections.of[strings.ToLower(child)]
	return c != nil && (c.held > 0 || s.now().Before(c.answered.Add(maxPollGap)))
}
