package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
	"ferry/internal/storage"
	"ferry/internal/storage/blob"
	"ferry/internal/storage/blob/fs"
)

// A copy is repeated until a pass takes less than shortPass, because the next one is as short then. A
// busy instance may never let it be so short.
const (
	shortPass = 10 * time.Second
	maxPasses = 20
)

// CopyOptions say how [CopyBlobs] copies. To is required.
type CopyOptions struct {
	To config.Config // the settings of the instance once its blobs are there
	// Final makes the target the store of the instance, which must be stopped.
	Final     bool
	Bandwidth schedule.Bandwidth
	Log       *slog.Logger            // nil discards
	Begin     func(*storage.BlobCopy) // is called with the copy before it begins; nil is not called
}

// Copied is what [CopyBlobs] has done.
type Copied struct {
	From, To    string // locations
	Blobs       int    // that the target has
	Bytes       int64
	Copied      int // of these, by this copy
	CopiedBytes int64
	Damaged     map[digest.Digest]string // blobs of the source that were left out, and why
	Partials    storage.CopiedPartials   // of the final copy
	Final       bool                     // the target is the store of the instance now
}

// CopyBlobs copies the blobs of the instance that cfg describes to another store. The instance may run,
// unless the copy is final. After an error, or if the process is killed, the next call continues.
func CopyBlobs(ctx context.Context, cfg config.Config, o CopyOptions) (c Copied, err error) {
	c.From, c.To = locationOf(cfg), locationOf(o.To)
	if c.From == c.To {
		return c, withHint(fmt.Errorf("the settings say that the blobs of the instance are in %s already", c.To),
			"give the settings of ferry serve, such as --config FILE or --blobs s3://BUCKET/PREFIX, and another --to")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkOwner(cfg.DataDir, "blobs copy"); err != nil {
		return c, err
	}
	unix.Umask(othersPermissions)
	unlock, err := storage.LockCopy(cfg.DataDir)
	if err != nil {
		return c, withHint(err, "wait for its end, or stop it: the next copy continues")
	}
	defer func() { err = errors.Join(err, unlock()) }()
	in := &instance{log: o.Log}
	defer in.close()
	id, from, err := in.openSource(ctx, cfg, o.Final)
	if err != nil {
		return c, advise(cfg, err)
	}
	to, err := in.openTarget(ctx, o.To, id)
	if err != nil {
		return c, err
	}
	blobs := storage.NewBlobCopy(from, to, paceOf(o.Bandwidth))
	if o.Begin != nil {
		o.Begin(blobs)
	}
	err = c.run(ctx, blobs)
	if err == nil && o.Final {
		err = in.finish(ctx, blobs, to, &c)
	}
	return c, err
}

// openSource opens the store that has the blobs of an instance. If the copy is final, no other process
// uses the instance from now on.
func (in *instance) openSource(ctx context.Context, cfg config.Config, final bool) (
	id metadb.Identity, store blob.Store, err error,
) {
	cfg.DatabaseWait = 0 // a person is waiting
	options := databaseOptions(cfg, in.log)
	if id, err = metadb.Identify(ctx, options); err == nil && id.Instance == "" {
		err = withHint(fmt.Errorf("no instance has its data in %s", cfg.DataDir),
			"give the settings of ferry serve, such as --config FILE, or --data-dir and --database")
	}
	if err != nil {
		return id, nil, firstCause(err)
	}
	if !final {
		in.dir, err = viewDataDir(cfg.DataDir, in.log)
	} else if in.dir, err = openDataDir(cfg.DataDir, false, in.log); errors.Is(err, storage.ErrLocked) {
		err = withHint(fmt.Errorf("the instance runs: %w", err),
			"stop it for the final copy; copy without --final while it runs, so that the final copy is short")
	}
	if err != nil {
		return id, nil, err
	}
	if err := in.openBucket(ctx, cfg); err != nil {
		return id, nil, err
	}
	if err := in.dir.match(id); err != nil {
		return id, nil, err
	}
	if final {
		in.db, err = openDatabase(ctx, cfg, in.dir, metadb.Alone, in.log)
		if errors.Is(err, metadb.ErrInUse) {
			err = withHint(fmt.Errorf("the instance runs: %w", err), "stop all of its processes for the final copy")
		}
	}
	if err == nil {
		store, err = in.openBlobs(cfg, Options{})
	}
	return id, store, err
}

// A target is a store to which blobs are copied.
type target interface {
	blob.Store
	blob.Marked
}

// openTarget opens the store that the blobs of the instance id are copied to, and marks it as unfinished.
func (in *instance) openTarget(ctx context.Context, cfg config.Config, id metadb.Identity) (t target, err error) {
	bucket, err := BucketOf(cfg)
	if err != nil {
		return nil, err
	}
	if bucket == nil {
		t, err = fs.New(cfg.DataDir)
	} else {
		t = bucket
		if err = bucket.Check(ctx); err == nil {
			err = bucket.Claim(ctx, id.Instance)
		}
		err = adviseBucket(err)
	}
	if err != nil {
		return nil, err
	}
	mark, err := t.Mark(ctx)
	if err == nil && mark != "" && mark == id.Store.Mark {
		err = withHint(fmt.Errorf("%s has the blobs of the instance already", locationOf(cfg)),
			"give another --to; blobs are copied from where the instance has them")
	}
	if err == nil && mark != unfinished {
		err = t.SetMark(ctx, unfinished)
	}
	return t, err
}

// paceOf returns the pace of reads that keep to a bandwidth.
func paceOf(limits schedule.Bandwidth) storage.Pace {
	const burst = 1 << 20 // at least what is read at a time
	limiter := rate.NewLimiter(rate.Inf, burst)
	return func(ctx context.Context, n int) error {
		limit := rate.Inf
		if bytes := limits.At(time.Now()); bytes > 0 {
			limit = rate.Limit(bytes)
		}
		if limiter.Limit() != limit {
			limiter.SetLimit(limit)
		}
		return limiter.WaitN(ctx, n)
	}
}

// run copies until the difference is small.
func (c *Copied) run(ctx context.Context, blobs *storage.BlobCopy) error {
	defer func() {
		c.Blobs, c.Bytes = blobs.Total()
		c.Damaged = blobs.Damaged()
	}()
	for range maxPasses {
		pass, err := blobs.Run(ctx)
		c.Copied += pass.Copied
		c.CopiedBytes += pass.CopiedBytes
		if err != nil || time.Since(pass.Begun) < shortPass {
			return err
		}
	}
	return nil
}

// finish makes the target the store of the instance. The transaction decides: before it, the instance has
// its blobs in the source.
func (in *instance) finish(ctx context.Context, blobs *storage.BlobCopy, to target, c *Copied) (err error) {
	missing, err := blobs.Missing(ctx, in.db)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return missingError(missing, c)
	}
	if c.Partials, err = blobs.CopyPartials(ctx, in.db); err != nil {
		return err
	}
	if c.To == inFiles {
		id, err := metadb.Read(ctx, in.db, (*metadb.Tx).Identity)
		if err == nil {
			err = in.dir.claim(id.Instance)
		}
		if err != nil {
			return err
		}
	}
	now := metadb.BlobStore{Mark: rand.Text(), Location: c.To}
	if err := to.SetMark(ctx, now.Mark); err != nil {
		return err
	}
	err = in.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error { return tx.SetBlobStore(now) })
	c.Final = err == nil
	return err
}

// maxNamed is how many blobs an error names.
const maxNamed = 3

// missingError returns the error for blobs in service that the source does not give.
func missingError(missing []digest.Digest, c *Copied) error {
	var named []string
	for _, d := range missing[:min(len(missing), maxNamed)] {
		reason := c.Damaged[d]
		if reason == "" {
			reason = "its file is lost"
		}
		named = append(named, fmt.Sprintf("%s (%s)", d, reason))
	}
	if more := len(missing) - len(named); more > 0 {
		named = append(named, fmt.Sprintf("%d more", more))
	}
	return withHint(
		fmt.Errorf("the instance keeps its blobs in %s, because blobs are damaged there: %s", c.From,
			strings.Join(slices.Clip(named), ", ")),
		"start it as before and run ferry repair, which takes them out of service or fetches them again; then copy "+
			"again")
}
