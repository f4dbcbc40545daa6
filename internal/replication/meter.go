package replication

import (
	"sync"
	"time"
)

// meter counts what [Progress] shows.
type meter struct {
	mu      sync.Mutex
	current Progress
	pace    pace // of what is received
}

// begin starts over, for a Sync of items items.
func (m *meter) begin(items int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.current, m.pace = Progress{ItemsTotal: items}, pace{}
}

// add changes what is counted.
func (m *meter) add(change func(*Progress)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(&m.current)
	m.pace.note(time.Now(), m.current.Received)
}

func (m *meter) progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}

func (m *meter) rate() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pace.rate(time.Now())
}
