package download

import "time"

// Progress is a moment of a session.
type Progress struct {
	BytesTotal, BytesDone int64 // of the blobs that were added
	Received              int64 // bytes of content that came over the link
}

// Progress returns how far the running, or the last, session is.
func (d *Downloader) Progress() Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progress
}

// Rate returns how many bytes of content came a second, over the last seconds.
func (d *Downloader) Rate() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.received.rate(time.Now())
}

// BlobProgress returns how many bytes of a blob are here, and how many came a
// second over the last seconds.
func (d *Downloader) BlobProgress(b *Blob) (done, rate int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return b.done, max(b.pace.rate(time.Now()), 0)
}

// Receive counts bytes of content that came in another way than as a blob.
func (d *Downloader) Receive(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receive(n)
}

func (d *Downloader) receive(n int64) {
	d.progress.Received += n
	d.received.note(time.Now(), d.progress.Received)
}

// expect counts a blob among what is to come.
func (d *Downloader) expect(b *Blob) {
	b.counted = b.Size
	d.progress.BytesTotal += b.Size
}

// got counts n bytes of a blob as here, or as lost if n is negative.
func (d *Downloader) got(b *Blob, n int64) {
	n = min(max(n, -b.done), b.counted-b.done)
	b.done += n
	d.progress.BytesDone += n
	b.pace.note(time.Now(), b.done)
}

// forget takes back what was counted of a blob, once.
func (d *Downloader) forget(b *Blob) {
	d.progress.BytesTotal -= b.counted
	d.progress.BytesDone -= b.done
	b.counted, b.done = 0, 0
}

// paceSpan is the time over which a rate is taken: long enough to look
// steady on a link that comes in bursts, short enough to show that it stopped.
const paceSpan = 10 * time.Second

// A pace is how much came over the link, lately. The zero value is ready.
type pace struct {
	marks []mark // oldest first; the first may be older than paceSpan
}

type mark struct {
	at    time.Time
	bytes int64
}

// note adds how much came in all, at now.
func (p *pace) note(now time.Time, bytes int64) {
	if n := len(p.marks); n > 0 && now.Sub(p.marks[n-1].at) < paceSpan/40 {
		return
	}
	p.marks = append(p.marks, mark{now, bytes})
	for len(p.marks) > 1 && now.Sub(p.marks[1].at) >= paceSpan {
		p.marks = p.marks[1:]
	}
}

// rate is how many bytes came a second, over the last [paceSpan] before now.
func (p *pace) rate(now time.Time) int64 {
	if len(p.marks) == 0 {
		return 0
	}
	first, last := p.marks[0], p.marks[len(p.marks)-1]
	for _, m := range p.marks {
		if now.Sub(m.at) >= paceSpan {
			first = m
		}
	}
	took := min(now.Sub(first.at), paceSpan) // the first may be from before an outage
	if took <= 0 {
		return 0
	}
	return int64(float64(last.bytes-first.bytes) / took.Seconds())
}
