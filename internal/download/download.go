// Package download brings blobs from a source into storage: in ranges, over
// many connections, with retries, and so that no byte that came is fetched
// again. It knows no images and no tags.
//
// A [Downloader] holds the state, guarded by one lock. Its workers (worker.go)
// take a job from it (queue.go), do it, and hand back the result, of which
// failure.go says what becomes.
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

// A Ref is a blob or a manifest of a repository.
type Ref struct {
	Repository string
	Digest     digest.Digest
}

// A Source is where blobs come from. Its errors say of themselves what package
// retry asks.
type Source interface {
	// Blob opens a blob from offset, for length bytes or, at -1, to its end.
	// The source may ignore the range; the second result is the offset at
	// which the body really begins.
	Blob(ctx context.Context, repository string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error)
}

// MaxBatch is how many blobs a [Batcher] is asked for at a time at most.
const MaxBatch = 64

// A Batcher is a source that can send several small blobs in one answer, which
// saves a round trip for each.
type Batcher interface {
	// Batch streams blobs, in the order of want, to fn, and returns after the
	// last, or with the first error. content is nil if that blob does not come
	// in this way.
	Batch(ctx context.Context, want []Ref, fn func(i int, size int64, content io.Reader) error) error
}

// connections is how many requests run at a time by default. On a satellite link
// (4 Mbit/s, 600 ms, 1 % loss) 16 reach 83 % of its rate, 18 reach 93 %, and 20, 24
// and 32 reach 94 %. On a link that is cut each loses what it has under way, so that
// 20 or more cost bytes.
const connections = 18

// Options are what a Downloader is made of. Storage is required.
type Options struct {
	Storage      *storage.Storage
	Log          *slog.Logger  // nil discards
	ChunkSize    int64         // the least that one request asks for over a fast link, in bytes; 0 is 1 MiB
	Connections  int           // how many requests run at a time; 0 is 18
	StallTimeout time.Duration // how long a connection may move no byte; 0 is 60 s
}

// A Downloader fetches blobs. Its methods are safe for concurrent use. What it
// knows of wrong content and of the received bytes outlives a [Downloader.Run].
type Downloader struct {
	storage     *storage.Storage
	log         *slog.Logger
	chunk       int64
	connections int
	stall       time.Duration

	mu         sync.Mutex
	src        Source
	results    chan<- Result // of the workers; set before they start
	queue      queue
	link       link
	quarantine quarantine
	progress   Progress
	received   pace
	changed    chan struct{} // closed when there may be something to do
}

// A Result is the end of a blob: it is here, a blob of its repositories, or it
// failed for good. A Deferred one is not the end: the blob failed for a while,
// and waits behind all others. If the source answers anything else and the blob
// fails for that long again, it fails for good.
type Result struct {
	Blob     *Blob
	Err      error
	Deferred bool
}

// New returns a downloader into o's storage.
func New(o Options) *Downloader {
	return &Downloader{
		storage:     o.Storage,
		log:         cmp.Or(o.Log, slog.New(slog.DiscardHandler)),
		chunk:       cmp.Or(o.ChunkSize, 1<<20),
		connections: cmp.Or(o.Connections, connections),
		stall:       cmp.Or(o.StallTimeout, time.Minute),
		changed:     make(chan struct{}),
	}
}

// Begin forgets the blobs of the last session and starts one with another
// source, whose progress begins at zero.
func (d *Downloader) Begin(src Source) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.src = src
	d.queue, d.link = newQueue(), newLink()
	d.progress, d.received = Progress{}, pace{}
}

// Run fetches what is added until ctx ends, and sends what is finished to
// results, which somebody must read for that long. The error is this registry's
// own, of its disk or its database. Everything that came is on disk then.
func (d *Downloader) Run(ctx context.Context, results chan<- Result) error {
	d.results = results
	defer d.storage.Promise(d.missing)()
	g, work := errgroup.WithContext(ctx)
	for range d.connections {
		g.Go(func() error { return d.work(work) })
	}
	return errors.Join(g.Wait(), d.closeAll())
}

// Add lets blobs be fetched. A blob that cannot be stored, or whose content was
// wrong too often, must not be added: see [Downloader.Quarantined].
func (d *Downloader) Add(blobs ...*Blob) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, b := range blobs {
		d.expect(b)
		d.queue.add(b)
		d.place(b, now)
	}
}

// Rank changes how soon a blob is fetched. Requests under way are answered.
func (d *Downloader) Rank(b *Blob, r Rank) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.rank != r {
		b.rank = r
		d.queue.fix(b)
	}
}

// Drop ends the fetching of a blob that nobody needs any more, without a
// result, unless it is just being committed. What came of it is kept on disk.
func (d *Downloader) Drop(b *Blob) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b.state == over || b.unwanted {
		return
	}
	d.forget(b)
	d.abandon(b)
}

// HasBegun reports whether any of a blob was looked for or asked for.
func (d *Downloader) HasBegun(b *Blob) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return b.state != waiting
}

// ExpectMore says whether more blobs may be added. If not, the rest is shared
// out among the connections so that all are done at about the same time.
func (d *Downloader) ExpectMore(more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.queue.more = more
}

// Waiting returns how many bytes the blobs have that nobody has begun.
func (d *Downloader) Waiting() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.queue.waiting
}

// missing returns how many bytes are still to be written of the blobs, of which
// partial are on disk.
func (d *Downloader) missing(partial map[digest.Digest]int64) (n int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for b := range d.queue.open {
		if b.state != complete && b.state != committing {
			n += max(b.Size-partial[b.Digest], 0)
		}
	}
	return n
}

// wake lets those look again who found nothing to do.
func (d *Downloader) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// closeAll makes durable what was fetched of the blobs that are not finished.
func (d *Downloader) closeAll() error {
	d.mu.Lock()
	open := d.queue.closing
	for b := range d.queue.open {
		b.state = over
		if b.transfer != nil {
			open = append(open, b.transfer)
		}
	}
	d.queue = newQueue()
	d.mu.Unlock()
	var errs []error
	for _, t := range open {
		errs = append(errs, closeTransfer(t))
	}
	return errors.Join(errs...)
}

// closeTransfer closes a transfer. A full disk is no error: the blob that needs
// the room fails for it.
func closeTransfer(t *storage.Transfer) error {
	if err := t.Close(); !errors.Is(err, oci.ErrNoSpace) {
		return err
	}
	return nil
}
