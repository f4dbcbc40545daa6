package download

import (
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
)

// A blob whose content was wrong in several sessions is quarantined for a while. Then the
// link is not at fault, and each session would fetch the blob twice for nothing, on a
// link that may be metered.
const (
	quarantineAfter    = 3         // sessions
	quarantinePause    = time.Hour // doubles with each further session
	quarantineMaxPause = 24 * time.Hour
	maxQuarantined     = 10_000 // blobs; the quarantine starts anew when it has more
)

// A quarantine holds the blobs whose content did not match the digest. The zero value is
// ready. It is in memory only.
type quarantine map[contentKey]quarantined

// A contentKey has the size because a manifest may state a wrong one.
type contentKey struct {
	digest digest.Digest
	size   int64
}

type quarantined struct {
	repository string // in which the source was asked for the blob
	reported   bool   // to the source
	sessions   int    // number of sessions in which the content was wrong
	pause      time.Duration
	until      time.Time
}

// add records that the content of a blob was wrong in a session.
func (q *quarantine) add(key contentKey, repository string, now time.Time) {
	if *q == nil || len(*q) >= maxQuarantined {
		*q = quarantine{}
	}
	b := (*q)[key]
	b.repository, b.reported = repository, false
	if b.sessions++; b.sessions >= quarantineAfter {
		b.pause = min(max(2*b.pause, quarantinePause), quarantineMaxPause)
		b.until = now.Add(b.pause)
	}
	(*q)[key] = b
}

// CheckQuarantine returns an error if a blob of this size is quarantined and must not be
// fetched now.
func (d *Downloader) CheckQuarantine(blob digest.Digest, size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.quarantine[contentKey{blob, size}]; time.Now().Before(b.until) {
		until := b.until.UTC().Format(time.RFC3339)
		return fmt.Errorf("blob %s: its content was wrong, and is fetched again after %s", blob, until)
	}
	return nil
}

// maxCorruptReported is the largest number of blobs reported to a source at a time.
const maxCorruptReported = 16

// CorruptBlobs returns up to [maxCorruptReported] blobs whose content was wrong and that
// were not reported to the source yet, so that the source can verify them.
func (d *Downloader) CorruptBlobs() (all []Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, b := range d.quarantine {
		if !b.reported && len(all) < maxCorruptReported {
			all = append(all, Ref{b.repository, key.digest})
		}
	}
	return all
}

// MarkReported records that blobs were reported to the source.
func (d *Downloader) MarkReported(blobs []Ref) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, b := range d.quarantine {
		if slices.Contains(blobs, Ref{b.repository, key.digest}) {
			b.reported = true
			d.quarantine[key] = b
		}
	}
}

// ClearQuarantine allows quarantined blobs to be fetched at once, for example because an
// operator repaired them at the source.
func (d *Downloader) ClearQuarantine() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.quarantine)
}
