package download

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
)

// How long a blob is left alone whose content was wrong in several sessions,
// because then it is not the link: each time takes twice its bytes, which
// somebody pays for.
const (
	quarantineAfter    = 3
	quarantinePause    = time.Hour // doubles with each further session
	quarantineMaxPause = 24 * time.Hour
	maxQuarantined     = 10_000 // that are remembered
)

// A quarantine is the blobs whose content was wrong at the source, by digest
// and size, because a manifest may name a wrong size. The zero value is ready.
// It is lost with the process.
type quarantine map[content]badContent

type content struct {
	digest digest.Digest
	size   int64
}

type badContent struct {
	sessions int // in which it was wrong
	pause    time.Duration
	until    time.Time
}

// add notes that the content of c was wrong in a session.
func (q *quarantine) add(c content, now time.Time) {
	if *q == nil || len(*q) >= maxQuarantined {
		*q = quarantine{}
	}
	b := (*q)[c]
	if b.sessions++; b.sessions >= quarantineAfter {
		b.pause = min(max(2*b.pause, quarantinePause), quarantineMaxPause)
		b.until = now.Add(b.pause)
	}
	(*q)[c] = b
}

// Quarantined returns an error while a blob of this size must not be fetched.
func (d *Downloader) Quarantined(blob digest.Digest, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.quarantine[content{blob, size}]; time.Now().Before(b.until) {
		until := b.until.UTC().Format(time.RFC3339)
		return fmt.Errorf("blob %s: its content was wrong, and is fetched again after %s", blob, until)
	}
	return nil
}

// ClearQuarantine lets blobs be fetched again whose content was wrong, because
// somebody mended it at the source.
func (d *Downloader) ClearQuarantine() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.quarantine)
}
