package replication

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// A Removal says what a Sync may remove from the repositories that it keeps.
type Removal int

// The kinds of removal.
const (
	// RemoveAll removes what the source does not have: the repositories are
	// the source's alone.
	RemoveAll Removal = iota
	// RemoveLed leaves manifests that were pushed without a tag, since others
	// write there, too: it removes the tags that the source had and lost, and
	// manifests to which a tag, an index or a subject led until then.
	RemoveLed
	// RemoveNothing only adds.
	RemoveNothing
)

// Options are what an Engine is made of. Storage and DB are required.
type Options struct {
	Storage      *storage.Storage
	DB           *metadb.DB
	Log          *slog.Logger     // nil discards
	Now          func() time.Time // of what is stored; nil is time.Now
	Source       string           // the source's name, which tells its items from those of others; "" is the parent
	Removal      Removal          // what goes that the source does not have
	KeepTags     bool             // a tag that is here and names something else stays, and its item fails
	ChunkSize    int64            // the least that one request asks for, in bytes, slow connections and a layer's end aside; 0 is 1 MiB
	Connections  int              // how many fetch at a time at most; fewer where more bring nothing; 0 is 16
	StallTimeout time.Duration    // how long a connection may move no byte; 0 is 60 s
}

// An Engine keeps the list of what is to be here and works it off. Its
// methods are safe for concurrent use; of two Syncs, the second waits.
type Engine struct {
	name    string // the source's
	removal Removal
	setTag  func(ctx context.Context, repository, name string, d digest.Digest) error
	storage *storage.Storage
	db      *metadb.DB
	log     *slog.Logger
	now     func() time.Time
	chunk   int64
	workers int
	stall   time.Duration
	meter   *meter
	larder  larder

	mu      sync.Mutex
	order   Order
	current *run       // nil while no Sync runs
	left    []Underway // by the last one
	aside   []Underway // that earlier ones left, and the last one was not to fetch

	running chan struct{} // holds the one Sync that runs
	swept   bool          // a Sync of this process has looked into every repository

	// Repositories in which something came or went and that were not swept
	// yet: the Sync that did it may have ended before. It is the running Sync's.
	touched map[string]bool
}

// New returns an engine over o's storage.
func New(o Options) *Engine {
	e := &Engine{
		name: o.Source, removal: o.Removal, storage: o.Storage, db: o.DB, log: o.Log, now: o.Now, chunk: o.ChunkSize, workers: o.Connections,
		stall: o.StallTimeout, order: anyOrder, meter: &meter{}, running: make(chan struct{}, 1), touched: map[string]bool{},
	}
	if e.setTag = o.Storage.SetTag; o.KeepTags {
		e.setTag = o.Storage.AddTag
	}
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
		e.workers = 16
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
	Refused  int   // of these, what that Sync gets no more of than this one, unless the source changes
	Received int64 // bytes of content that came over the link
}

// Sync works off every item that is not synced: it fetches what is missing,
// makes it visible, the tag last, and then removes what is to go. An item
// that fails does not stop the others; it is tried again by the next Sync. A
// link that is down is waited for, as long as ctx lives.
//
// The error is ctx's cause when ctx ends, and otherwise says that the
// database, the disk or the source is of no use for anything. Every byte that
// was received is kept in any case.
func (e *Engine) Sync(ctx context.Context, src Source) (Result, error) {
	select {
	case e.running <- struct{}{}:
		defer func() { <-e.running }()
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	r := newRun(e, src)
	e.lead(r)
	defer e.leave(r)
	err := r.all(ctx)
	r.result.Received = e.meter.progress().Received
	return r.result, cause(ctx, err)
}

// lead notes which run is the one of the Sync that runs, and what it leaves
// alone of what earlier ones began.
func (e *Engine) lead(r *run) {
	order := e.ordered()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current = r
	e.aside = slices.DeleteFunc(slices.Concat(e.left, e.aside), func(u Underway) bool {
		_, wanted := order(u.Repository)
		return wanted
	})
	e.left = nil
}

// leave notes that no Sync runs, and what the last one left.
func (e *Engine) leave(r *run) {
	left := stopped(r.underway())
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.left = nil, left
}

// cause prefers the reason for which ctx ended to the error that followed.
func cause(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// Progress returns how far the running, or the last, Sync is, with the bytes of
// what it leaves alone.
func (e *Engine) Progress() Progress {
	p := e.meter.progress()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, u := range e.aside {
		p.BytesTotal += u.BytesTotal
		p.BytesDone += u.BytesDone
	}
	return p
}

// Rate returns how many bytes of content came a second, over the last seconds.
func (e *Engine) Rate() int64 { return e.meter.rate() }

// Trouble returns why nothing comes to the Sync that runs, nil where all is
// well, and until when its source wants to be left alone, where it said so.
func (e *Engine) Trouble() (until time.Time, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return time.Time{}, nil
	}
	return e.current.link.trouble()
}
