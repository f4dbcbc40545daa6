package download

import "time"

// Progress is the progress of a session.
type Progress struct {
	BytesTotal, BytesDone int64 // of the added blobs
	Received              int64 // bytes of content received over the link
}

// Progress returns the progress of the running or last session.
func (d *Downloader) Progress() Progress {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.progress
}

// Rate returns the bytes of content received per second, over the last seconds.
func (d *Downloader) Rate() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.receiveRate.perSecond(time.Now())
}

// BlobProgress returns how many bytes of a blob are on disk, and how many arrived per
// second over the last seconds.
func (d *Downloader) BlobProgress(b *Blob) (done, rate int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return b.bytesDone, max(b.rate.perSecond(time.Now()), 0)
}

// CountReceived counts bytes of content that the caller received by other requests.
func (d *Downloader) CountReceived(n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.countReceived(n)
}

func (d *Downloader) countReceived(n int64) {
	d.progress.Received += n
	d.meter.received.Add(n)
	d.receiveRate.add(time.Now(), d.progress.Received)
}

// countExpected adds a blob to the total.
func (d *Downloader) countExpected(b *Blob) {
	b.bytesExpected = b.Size
	d.progress.BytesTotal += b.Size
}

// countDone counts n more bytes of a blob as done or, if n is negative, fewer.
func (d *Downloader) countDone(b *Blob, n int64) {
	n = min(max(n, -b.bytesDone), b.bytesExpected-b.bytesDone)
	b.bytesDone += n
	d.progress.BytesDone += n
	b.rate.add(time.Now(), b.bytesDone)
}

// uncount removes a blob from the counts. A second call changes nothing.
func (d *Downloader) uncount(b *Blob) {
	d.progress.BytesTotal -= b.bytesExpected
	d.progress.BytesDone -= b.bytesDone
	b.bytesExpected, b.bytesDone = 0, 0
}

// rateWindow is the time over which a rate is measured: long enough to look steady on a
// link with bursts, short enough to show that the link has stopped.
const rateWindow = 10 * time.Second

// A rateMeter measures a rate from samples of a growing total. The zero value is ready.
type rateMeter struct {
	samples []rateSample // oldest first; only the first may be older than rateWindow
}

type rateSample struct {
	at    time.Time
	bytes int64
}

// add records the total at now.
func (m *rateMeter) add(now time.Time, bytes int64) {
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) < rateWindow/40 {
		return
	}
	m.samples = append(m.samples, rateSample{now, bytes})
	for len(m.samples) > 1 && now.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
}

// perSecond returns the bytes per second over the last [rateWindow] before now.
func (m *rateMeter) perSecond(now time.Time) int64 {
	if len(m.samples) == 0 {
		return 0
	}
	first, last := m.samples[0], m.samples[len(m.samples)-1]
	for _, s := range m.samples {
		if now.Sub(s.at) >= rateWindow {
			first = s
		}
	}
	took := min(now.Sub(first.at), rateWindow) // the first may be from before an outage
	if took <= 0 {
		return 0
	}
	return int64(float64(last.bytes-first.bytes) / took.Seconds())
}
