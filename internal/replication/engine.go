package replication

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// Origin is the origin, in this registry's change feed, of what a sync brought.
const Origin = "parent"

// Options are what an Engine is made of. Storage and DB are required.
type Options struct {
	Storage      *storage.Storage
	DB           *metadb.DB
	Log          *slog.Logger     // nil discards
	Now          func() time.Time // nil is time.Now
	ChunkSize    int64            // the least that one request asks for, in bytes; 0 is 1 MiB
	Connections  int              // how many fetch at a time; 0 is 4
	StallTimeout time.Duration    // how long a connection may move no byte; 0 is 60 s
}

// An Engine keeps the list of what is to be here and works it off. Its
// methods are safe for concurrent use, but only one Sync runs at a time.
type Engine struct {
	storage *storage.Storage
	db      *metadb.DB
	log     *slog.Logger
	now     func() time.Time
	chunk   int64
	workers int
	stall   time.Duration

	running sync.Mutex
	meter   meter
}

// New returns an engine over o's storage.
func New(o Options) *Engine {
	e := &Engine{storage: o.Storage, db: o.DB, log: o.Log, now: o.Now, chunk: o.ChunkSize, workers: o.Connections, stall: o.StallTimeout}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	if e.now == nil {
		e.now = time.Now
	}
	if e.chunk <= 0 {
		e.chunk = 1 << 20
	}
	if e.workers <= 0 {
		e.workers = 4
	}
	if e.stall <= 0 {
		e.stall = time.Minute
	}
	return e
}

// A Result is what one Sync did.
type Result struct {
	Synced   int   // items that match the source now
	Removed  int   // items that are gone now
	Failed   int   // items that are left for the next Sync
	Received int64 // bytes of content that came over the link
}

// leaseTime is how long a sync's blobs are safe from collection without a
// manifest; a sync that takes longer renews it with each batch.
const leaseTime = 14 * 24 * time.Hour

// leaseHolder is the name that a sync's leases are held in.
const leaseHolder = "sync"

// Sync works off every item that is not synced: it fetches what is missing,
// makes it visible, the tag last, and then removes what is to go. An item
// that fails does not stop the others; it is tried again by the next Sync.
//
// The error is ctx's cause when ctx ends, and otherwise says that the
// database, the disk or the source is of no use for anything. Every byte that
// was received is kept in any case.
func (e *Engine) Sync(ctx context.Context, src Source) (Result, error) {
	e.running.Lock()
	defer e.running.Unlock()
	e.meter.reset()
	var result Result
	err := e.fetchAll(ctx, src, &result)
	result.Received = e.meter.received.Load()
	if err != nil {
		return result, cause(ctx, err)
	}
	if err := e.remove(ctx, &result); err != nil {
		return result, cause(ctx, err)
	}
	if result.Failed == 0 {
		return result, cause(ctx, e.storage.Release(ctx, leaseHolder))
	}
	return result, nil
}

// cause prefers the reason for which ctx ended to the error that followed.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Progress returns how far the running, or the last, Sync is.
func (e *Engine) Progress() Progress { return e.meter.progress() }

// meter counts what [Progress] shows.
type meter struct {
	itemsTotal, itemsDone, itemsFailed atomic.Int64
	bytesTotal, bytesDone, received    atomic.Int64
}

func (m *meter) reset() {
	for _, n := range []*atomic.Int64{&m.itemsTotal, &m.itemsDone, &m.itemsFailed, &m.bytesTotal, &m.bytesDone, &m.received} {
		n.Store(0)
	}
}

func (m *meter) progress() Progress {
	return Progress{
		ItemsTotal: int(m.itemsTotal.Load()), ItemsDone: int(m.itemsDone.Load()), ItemsFailed: int(m.itemsFailed.Load()),
		BytesTotal: m.bytesTotal.Load(), BytesDone: m.bytesDone.Load(), Received: m.received.Load(),
	}
}
