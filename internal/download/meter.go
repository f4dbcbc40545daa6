package download

import (
	"sync"
	"sync/atomic"
	"time"
)

// A Meter counts the work of all downloaders that share it. The zero value is ready. It is safe
// for concurrent use.
type Meter struct {
	received, retries, failed atomic.Int64

	mu      sync.Mutex
	running map[*Downloader]bool
}

// A Load is what the downloaders of a [Meter] do now, and did since it was made.
type Load struct {
	Received int64 // bytes of content
	Retries  int64 // requests that failed, and whose content was requested again
	Failed   int64 // blobs that failed for the rest of their session

	Transferring, Waiting int // blobs
}

// Load returns the load of all downloaders.
func (m *Meter) Load() Load {
	l := Load{Received: m.received.Load(), Retries: m.retries.Load(), Failed: m.failed.Load()}
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range m.running {
		transferring, waiting := d.counts()
		l.Transferring, l.Waiting = l.Transferring+transferring, l.Waiting+waiting
	}
	return l
}

// started adds a downloader, until ended is called.
func (m *Meter) started(d *Downloader) (ended func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running == nil {
		m.running = map[*Downloader]bool{}
	}
	m.running[d] = true
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		delete(m.running, d)
	}
}

// counts returns how many blobs are being fetched, and how many wait for that.
func (d *Downloader) counts() (transferring, waiting int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for b := range d.queue.unfinished {
		if b.state == pending || b.state == fetching && len(b.segments) == 0 {
			waiting++
		} else {
			transferring++
		}
	}
	return transferring, waiting
}

// Quarantined returns how many blobs are quarantined.
func (d *Downloader) Quarantined() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, b := range d.quarantine {
		if now.Before(b.until) {
			n++
		}
	}
	return n
}
