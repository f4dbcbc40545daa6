package replication

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// A Prune says what a Sync may remove from the repositories that it syncs.
type Prune int

// The kinds of pruning.
const (
	// PruneAll removes everything that the source does not have: the repositories
	// belong to the source alone.
	PruneAll Prune = iota
	// PruneTracked removes tags that the source had and lost, and manifests that a tag,
	// an index or a subject referenced until then. It keeps manifests that were pushed
	// without a tag, because other clients write to the repositories, too.
	PruneTracked
	// PruneNone removes nothing.
	PruneNone
)

// Options configure an Engine. Storage and DB are required.
type Options struct {
	Storage      *storage.Storage
	DB           *metadb.DB
	Log          *slog.Logger     // nil discards
	Now          func() time.Time // for stored times; nil is time.Now
	Source       string           // name that separates the source's items from others; "" is the parent
	Prune        Prune
	KeepTags     bool            // never move an existing tag to another manifest: its item fails
	ChunkSize    int64           // see [download.Options]
	Connections  int             // see [download.Options]
	StallTimeout time.Duration   // a connection that moves no byte for so long is dropped; 0 is 60 s
	Meter        *download.Meter // counts the downloads; nil is one of its own
	// Observe is called in the transaction that records the outcome of an item; nil is not called.
	Observe func(tx *metadb.Tx, o Outcome) error
}

// An Engine records the items that a source lists, and syncs them. Its methods are safe
// for concurrent use. Only one Sync runs at a time; a second one waits.
type Engine struct {
	name         string // of the source
	pruneMode    Prune
	keepTags     bool
	storage      *storage.Storage
	content      content // what the engine writes and removes
	db           *metadb.DB
	log          *slog.Logger
	now          func() time.Time
	stallTimeout time.Duration
	download     *download.Downloader
	observe      func(tx *metadb.Tx, o Outcome) error

	mu             sync.Mutex // guards the fields below, and the state of the running Sync
	order          Order
	followsChanges bool       // the running Sync reads items that change; true if an order is set
	current        *run       // nil while no Sync runs
	items          Progress   // of the running or last Sync, without bytes
	unfinished     []InFlight // images that the last Sync left in flight
	setAside       []InFlight // images left by earlier Syncs that the last one's order excluded

	running chan struct{} // holds one token while a Sync runs

	// The running Sync owns the fields below.
	prunedAll bool            // a Sync of this process has pruned every repository
	toPrune   map[string]bool // repositories whose content changed since they were pruned
}

// content is the storage, or its content without regard to locks.
type content interface {
	PutImages(ctx context.Context, images []storage.Image, also func(*metadb.Tx) error) error
	DeleteTag(ctx context.Context, repository, name string, notes ...storage.Note) error
	DeleteManifest(ctx context.Context, repository string, d digest.Digest, notes ...storage.Note) error
	DeleteRepository(ctx context.Context, name string, notes ...storage.Note) error
}

// New returns an engine over o's storage.
func New(o Options) *Engine {
	e := &Engine{
		content: o.Storage,
		name:    o.Source, pruneMode: o.Prune, keepTags: o.KeepTags,
		storage: o.Storage, db: o.DB, now: o.Now,
		log: cmp.Or(o.Log, slog.New(slog.DiscardHandler)), stallTimeout: cmp.Or(o.StallTimeout, time.Minute),
		observe: o.Observe, order: anyOrder, running: make(chan struct{}, 1), toPrune: map[string]bool{},
	}
	if o.Source == metadb.Parent { // locks are the parent's decisions, and do not hinder others of its decisions
		e.content = o.Storage.Unlocked()
	}
	if e.now == nil {
		e.now = time.Now
	}
	e.download = download.New(download.Options{
		Storage: o.Storage, Log: e.log,
		ChunkSize: o.ChunkSize, Connections: o.Connections, StallTimeout: e.stallTimeout,
		Meter: o.Meter,
	})
	return e
}

// A Result is the result of one Sync.
type Result struct {
	Synced       int   // items that now match the source
	Removed      int   // items that were removed
	Failed       int   // items that the next Sync tries again
	Permanent    int   // failed items that will fail again until the source changes
	NoSpace      int   // failed items for which the disk has no space
	MissingSpace int64 // bytes of disk space that they need beside the free space
	Received     int64 // bytes of content received over the link
}

// Sync syncs every pending item: it fetches missing content, makes it visible, the tag
// last, and then removes content that left the source. An item that fails does not stop
// the others; the next Sync tries it again. While the link is down, Sync waits until ctx
// ends.
//
// The error is ctx's cause if ctx ended. Otherwise, the database or the disk failed, or
// the source refuses every request. Received bytes are kept in any case.
func (e *Engine) Sync(ctx context.Context, src Source) (Result, error) {
	select {
	case e.running <- struct{}{}:
		defer func() { <-e.running }()
	case <-ctx.Done():
		return Result{}, context.Cause(ctx)
	}
	r := e.beginRun(src)
	defer e.endRun(r)
	err := r.sync(ctx)
	r.result.Received = e.download.Progress().Received
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return r.result, err
}

// beginRun starts a run. It sets aside images that earlier runs left in flight and that the
// order now excludes.
func (e *Engine) beginRun(src Source) *run {
	e.download.StartSession(src)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.items = newRun(e, src), Progress{}
	e.setAside = slices.DeleteFunc(slices.Concat(e.unfinished, e.setAside), func(u InFlight) bool {
		_, wanted := e.order(u.Repository)
		return wanted
	})
	e.unfinished = nil
	return e.current
}

// endRun ends a run and remembers the images that it leaves in flight.
func (e *Engine) endRun(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.current, e.unfinished = nil, stoppedInFlight(r.inFlight())
}

// Quarantined returns how many blobs are not fetched for a while because their content was wrong.
func (e *Engine) Quarantined() int { return e.download.Quarantined() }

// LinkError returns why the requests of the running Sync fail; nil if they succeed or no
// Sync runs. If the source asked for a pause, until is its end.
func (e *Engine) LinkError() (until time.Time, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return time.Time{}, nil
	}
	return e.download.LinkError()
}

// ClearQuarantine allows the next Sync to fetch quarantined blobs at once, for example
// because an operator repaired them at the source.
func (e *Engine) ClearQuarantine() { e.download.ClearQuarantine() }

// CorruptBlobs returns blobs whose content did not match the digest and that were not
// reported to the source yet, so that the source can verify them.
func (e *Engine) CorruptBlobs() []Ref { return e.download.CorruptBlobs() }

// MarkReported records that corrupt blobs were reported to the source.
func (e *Engine) MarkReported(blobs []Ref) { e.download.MarkReported(blobs) }

// Wanted returns how many pending items the order allows a Sync to fetch.
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
