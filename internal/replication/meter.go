package replication

import (
	"sync"
	"time"
)

// meterInterval is how often [Options.OnProgress] is called at most.
const meterInterval = 250 * time.Millisecond

// meter counts what [Progress] shows.
type meter struct {
	notify func(Progress) // nil, or [Options.OnProgress]

	mu      sync.Mutex
	current Progress

	telling sync.Mutex // held during notify
	told    time.Time
}

// begin starts over, for a Sync of items items.
func (m *meter) begin(items int) {
	m.mu.Lock()
	m.current = Progress{ItemsTotal: items}
	m.mu.Unlock()
}

// add changes what is counted, and tells it, unless that was done just now.
func (m *meter) add(change func(*Progress)) {
	m.mu.Lock()
	change(&m.current)
	now := m.current
	m.mu.Unlock()
	if m.notify == nil || !m.telling.TryLock() {
		return
	}
	defer m.telling.Unlock()
	if time.Since(m.told) >= meterInterval {
		m.told = time.Now()
		m.notify(now)
	}
}

// end tells the final count.
func (m *meter) end() Progress {
	now := m.progress()
	if m.notify != nil {
		m.telling.Lock()
		defer m.telling.Unlock()
		m.notify(now)
	}
	return now
}

func (m *meter) progress() Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current
}
