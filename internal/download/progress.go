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
