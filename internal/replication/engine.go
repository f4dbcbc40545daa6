package replication

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ferry/internal/download"
	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// A Prune says what a Sync may remove from the repositories that it keeps.
type Prune int

// The kinds of removal.
const (
	// PruneAll removes what the source does not have: the repositories are
	// the source's alone.
	PruneAll Prune = iota
	// PruneTracked leaves manifests that were pushed without a tag, because
	// others write there, too: it removes the tags that the source had and
	// lost, and manifests that a tag, an index or a subject referenced until then.
	PruneTracked
	// PruneNone only adds.
	PruneNone
)

// Options are what an Engine is made of. Storage and DB are required.
type Options struct {
	Storage      *storage.Storage
	DB           *metadb.DB
	Log          *slog.Logger     // nil discards
	Now          func() time.Time // of what is stored; nil is time.Now
	Source       string           // the source's name, which tells its items from those of others; "" is the parent
	Prune        Prune            // what is removed that the source does not have
	KeepTags     bool             // a tag that is here and names something else stays, and its item fails
	ChunkSize    int64            // the least that one request asks for; see [download.Options]
	Connections  int              // how many requests run at a time; see [download.Options]
	StallTimeout time.Duration    // how long a connection may move no byte; 0 is 60 s
}

// An Engine keeps the list of items that are to be here and works it off. Its
// methods are safe for concurrent use; of two Syncs, the second waits.
type Engine struct {
	name     string // the source's
	prune    Prune
	keepTags bool
	storage  *storage.Storage
	db       *metadb.DB
	log      *slog.Logger
	now      func() time.Time
	stall    time.Duration
	download *download.Downloader

	mu      sync.Mutex // guards what follows, and the state of the running Sync
	order   Order
	follows bool       // the running Sync takes up what is recorded meanwhile: somebody set the order
	current *run       // nil while no Sync runs
	items   Progress   // of the running, or the last, Sync, without bytes
	left    []InFlight // by the last one
	aside   []InFlight // that earlier ones left, and the last one was not to fetch

	running chan struct{} // holds the one Sync that runs

	// What follows is the running Sync's.
	pruned  bool            // a Sync of this process has looked into every repository
	touched map[string]bool // repositories in which something came or went and that were not pruned since
}

// New returns an engine over o's storage.
func New(o Options) *Engine {
	e := &Engine{
		name: o.Source, prune: o.Prune, keepTags: o.KeepTags,
		storage: o.Storage, db: o.DB, now: o.Now,
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), stall: cmp.Or(o.StallTimeout, time.Minute),
		order: anyOrder, running: make(chan struct{}, 1), touched: map[string]bool{},
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.download = download.New(download.Options{
		Storage: o.Storage, Log: e.log, ChunkSize: o.ChunkSize, Connections: o.Connections, StallTimeout: e.stall,
	})
	return e
}

// A Result is what one Sync did.
type Result struct {
	Synced       int   // items that match the source now
	Removed      int   // items that are gone now
	Failed       int   // items that are left for the next Sync
	Refused      int   // of these, those that fail again until the source changes
	NoSpace      int   // of the failed ones, those for which the disk has no room
	MissingSpace int64 // bytes for which the disk has no room
	Received     int64 // bytes of content that came over the link
}

// Sync works off every item that is not synced: it fetches what is missing,
// makes it visible, the tag last, and then removes what left the source. An
// item that fails does not stop the others; the next Sync tries it again. A
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
	r := e.begin(src)
	defer e.end(r)
	err := r.all(ctx)
	r.result.Received = e.download.Progress().Received
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r.result, err
}

// begin starts a run, and notes what it leaves alone of what earlier ones began.
func (e *Engine) begin(src Source) *run {
	e.download.StartSession(src)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.items = newRun(e, src), Progress{}
	e.aside = slices.DeleteFunc(slices.Concat(e.left, e.aside), func(u InFlight) bool {
		_, wanted := e.order(u.Repository)
		return wanted
	})
	e.left = nil
	return e.current
}

// end notes that no Sync runs, and what the last one left.
func (e *Engine) end(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.left = nil, stopped(r.inFlight())
}

// Trouble returns why nothing comes to the running Sync, nil if all is well,
// and until when its source asked for a pause, if it did.
func (e *Engine) LinkError() (until time.Time, why error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return time.Time{}, nil
	}
	return e.download.LinkError()
}

// ClearQuarantine lets the next Sync fetch what had wrong content at once,
// because somebody mended it at the source.
func (e *Engine) ClearQuarantine() { e.download.ClearQuarantine() }

// Suspects returns blobs whose content from the source was not what the digest says, which
// was not reported to the source yet.
func (e *Engine) CorruptBlobs() []Ref { return e.download.CorruptBlobs() }

// NoteReported notes that suspects were reported to the source.
func (e *Engine) MarkReported(suspects []Ref) { e.download.MarkReported(suspects) }

// An Order says of a repository how soon a Sync fetches what is to come to
// it, the lowest priority first, and whether it fetches that at all. It must
// not block, nor call the engine.
type Order func(repository string) (priority int, wanted bool)

// anyOrder is the order if there is none.
func anyOrder(string) (priority int, wanted bool) { return 0, true }

// SetOrder lets Syncs follow an order from now on; nil is none. In a Sync that
// runs, requests under way are answered, and the next ones follow the new order.
func (e *Engine) SetOrder(o Order) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.order, e.follows = o, o != nil; o == nil {
		e.order = anyOrder
	}
	if e.current != nil {
		e.current.reorder()
	}
}

func (e *Engine) currentOrder() Order {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.order
}

// Wanted returns how many pending items the order lets a Sync fetch.
func (e *Engine) Wanted(ctx context.Context) (n int, err error) {
	order := e.currentOrder()
	waiting, err := e.repositories(ctx, metadb.WantedSyncItem)
	for repository, count := range waiting {
		if _, wanted := order(repository); wanted {
			n += count
		}
	}
	return n, err
}
