// Package download fetches blobs from a source into storage: in ranges, over many
// connections, with retries. It never fetches a byte twice that is already on disk. It
// knows nothing of images and tags.
//
// A [Downloader] holds the state of a session behind one lock. Its workers (worker.go)
// take jobs from its queue, which decides what is fetched next (queue.go), and return the
// results. The other files:
//
//   - opentransfer.go opens transfers, which continue where earlier sessions stopped;
//   - segment.go gives each request a gap of a blob;
//   - rangesize.go decides how many bytes one request asks for;
//   - stream.go writes a response to disk;
//   - commit.go verifies a blob and makes it visible;
//   - failure.go decides whether a failed blob is retried, deferred or given up;
//   - sourcelink.go pauses all requests while the link is down or the source asks for it;
//   - quarantine.go remembers blobs whose content was wrong.
package download

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// A Ref names a blob or a manifest of a repository.
type Ref struct {
	Repository string
	Digest     digest.Digest
}

// A Source sends blobs. Its errors have the methods that package retry documents.
type Source interface {
	// Blob opens a blob at offset, for length bytes or, if length is -1, to its end.
	// The source may ignore the range; the second result is the offset at which the
	// body really begins.
	Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error)
}

// MaxBatch is the largest number of blobs in one request to a [Batcher].
const MaxBatch = 64

// A Batcher is a source that can send several small blobs in one response, which saves a
// round trip for each.
type Batcher interface {
	// Batch streams the wanted blobs, in order, to fn. It returns after the last one,
	// or with the first error. content is nil if the source does not send that blob in
	// a batch.
	Batch(ctx context.Context, want []Ref, fn func(i int, size int64, content io.Reader) error) error
}

// connections is the default number of concurrent requests. On a satellite link
// (4 Mbit/s, 600 ms, 1 % loss), 16 reach 83 % of its rate, 18 reach 93 %, and 20, 24
// and 32 reach 94 %. When a link is cut, each connection loses its bytes in flight, so
// 20 or more waste bytes.
const connections = 18

// Options configure a Downloader. Storage is required.
type Options struct {
	Storage      *storage.Storage
	Log          *slog.Logger  // nil discards
	ChunkSize    int64         // smallest range to ask for over a fast link, in bytes; 0 is 1 MiB
	Connections  int           // number of concurrent requests; 0 is 18
	StallTimeout time.Duration // a connection that moves no byte for so long is dropped; 0 is 60 s
	Meter        *Meter        // counts the work; nil is one of its own
}

// A Downloader fetches blobs, one session after the other. Its methods are safe for
// concurrent use. The quarantine outlives a session; the progress of the last session
// can be read until the next one starts.
type Downloader struct {
	storage      *storage.Storage
	log          *slog.Logger
	chunkSize    int64
	connections  int
	stallTimeout time.Duration
	meter        *Meter

	mu          sync.Mutex
	src         Source
	results     chan<- Result // set before the workers start
	queue       queue
	link        sourceLink
	quarantine  quarantine
	progress    Progress
	receiveRate rateMeter
	changed     chan struct{} // closed when an idle worker may find something to do
}

// A Result is the outcome for a blob. If Err is nil, all of its repositories hold it. If
// Deferred is true, the blob is not finished: it kept failing for a while and now waits
// behind all others. If it keeps failing while other requests succeed, it fails for good.
type Result struct {
	Blob     *Blob
	Err      error
	Deferred bool
}

// New returns a downloader into o's storage.
func New(o Options) *Downloader {
	return &Downloader{
		storage:      o.Storage,
		log:          cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		chunkSize:    cmp.Or(o.ChunkSize, 1<<20),
		connections:  cmp.Or(o.Connections, connections),
		stallTimeout: cmp.Or(o.StallTimeout, time.Minute),
		meter:        cmp.Or(o.Meter, new(Meter)),
		changed:      make(chan struct{}),
	}
}

// StartSession drops the blobs of the last session and starts a session with src. Its
// progress starts at zero.
func (d *Downloader) StartSession(src Source) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.src = src
	d.queue, d.link = newQueue(), newSourceLink()
	d.progress, d.receiveRate = Progress{}, rateMeter{}
}

// Run fetches the added blobs until ctx ends, and sends a [Result] for each to results,
// which must have a reader until Run returns. An error means that this registry's database,
// or its whole disk, failed. When Run returns, every received byte is on disk.
func (d *Downloader) Run(ctx context.Context, results chan<- Result) error {
	d.results = results
	defer d.storage.ReserveSpace(d.bytesToWrite)()
	defer d.meter.started(d)()
	g, work := errgroup.WithContext(ctx)
	for range d.connections {
		g.Go(func() error { return d.runWorker(work) })
	}
	return errors.Join(g.Wait(), d.closeTransfers())
}

// Add queues blobs. The caller must not add a blob that cannot be stored, or that is in
// quarantine (see [Downloader.CheckQuarantine]).
func (d *Downloader) Add(blobs ...*Blob) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, b := range blobs {
		d.countExpected(b)
		d.queue.add(b)
		d.requeue(b, now)
	}
}

// Rank changes how soon a blob is fetched. Requests in flight are not interrupted.
func (d *Downloader) Rank(b *Blob, r Rank) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.rank != r {
		b.rank = r
		d.queue.reorder(b)
	}
}

// Cancel stops fetching a blob that is no longer needed. It sends no result, and keeps the
// received bytes on disk. A commit that is running completes.
func (d *Downloader) Cancel(b *Blob) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.state == finished || b.dropped {
		return
	}
	d.uncount(b)
	d.dropBlob(b)
}

// HasStarted reports whether a worker has started on a blob.
func (d *Downloader) HasStarted(b *Blob) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return b.state != pending
}

// ExpectMore says whether more blobs may be added. If not, the remaining bytes are shared
// out so that all connections finish at about the same time.
func (d *Downloader) ExpectMore(more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.expectMore = more
}

// PendingBytes returns the total size of the blobs that no worker has started on.
func (d *Downloader) PendingBytes() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queue.pendingBytes
}

// bytesToWrite returns how many bytes of the unfinished blobs are still to be written. partial
// has the bytes of each blob that are on disk.
func (d *Downloader) bytesToWrite(partial map[digest.Digest]int64) (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for b := range d.queue.unfinished {
		if b.state != complete && b.state != committing {
			n += max(b.Size-partial[b.Digest], 0)
		}
	}
	return n
}

// wakeWorkers makes idle workers look for a job again. The lock is held.
func (d *Downloader) wakeWorkers() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// closeTransfers ends the session, and syncs the received bytes of unfinished blobs to disk.
func (d *Downloader) closeTransfers() error {
	d.mu.Lock()
	open := d.queue.toClose
	for b := range d.queue.unfinished {
		b.state = finished
		if b.transfer != nil {
			open = append(open, b.transfer)
		}
	}
	d.queue = newQueue()
	d.mu.Unlock()
	var errs []error
	for _, t := range open {
		errs = append(errs, d.closeTransfer(t))
	}
	return errors.Join(errs...)
}

// closeTransfer closes a transfer. It ignores a full disk and the failure of the transfer's own
// file, which only fail the blob.
func (d *Downloader) closeTransfer(t *storage.Transfer) error {
	err := t.Close()
	if err == nil || errors.Is(err, oci.ErrNoSpace) {
		return nil
	}
	if d.storage.IsFileFailure(context.Background(), err) {
		d.log.Warn("file of a blob fails", "err", err)
		return nil
	}
	return err
}
