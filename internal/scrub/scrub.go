// Package scrub regularly reads all stored content again, so that damage is found and healed
// before the content is needed. It begins at [Scrubber.Run].
//
// A scrub reads the manifests, then the blobs, each in order, and saves its position. Package
// storage takes damaged content out of service.
package scrub

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/storage"
)

const (
	// dueEvery is how often the scrubber checks whether a scrub is due.
	dueEvery = time.Minute
	// saveEvery is how often a scrub saves its position.
	saveEvery = 30 * time.Second
	// checkEvery is how often the files of all blobs are checked without reading them. Most
	// files are lost in a power loss, so the check also runs soon after the start.
	checkEvery = 24 * time.Hour
	// pageSize is how many rows are read at a time.
	pageSize = 100
	// minBurst is how many bytes may be read at once at any rate.
	minBurst = 1 << 20
)

// errSuperseded ends a read of a scrub that another scrub has replaced.
var errSuperseded = errors.New("another scrub has begun")

// Options configure a Scrubber. Storage and DB are required.
type Options struct {
	Storage *storage.Storage
	DB      *metadb.DB
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is time.Now
	Schedule
}

// A Schedule says when scrubs run, and how fast.
type Schedule struct {
	Every time.Duration        // how often a scrub begins; 0 is only on request
	Rate  int64                // bytes in a second, except for requested scrubs; 0 is no limit
	Open  func(time.Time) bool // whether a scrub may read at this time; requested ones always may; nil is always
}

// A Scrubber runs scrubs, one at a time. Its methods are safe for concurrent use.
type Scrubber struct {
	Options
	limiter  *rate.Limiter
	suspects suspects
	schedule atomic.Pointer[Schedule]

	mu           sync.Mutex
	state        state
	wakeup       chan struct{} // closed when a scrub is requested
	saved        time.Time     // when the state was saved
	from         progress      // progress of the running scrub when this process began to read
	readingSince time.Time     // when this process began to read
}

// New returns a scrubber that continues where an earlier process saved its position.
func New(ctx context.Context, o Options) (*Scrubber, error) {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Scrubber{Options: o, limiter: newLimiter(o.Rate), suspects: newSuspects(o.Rate), wakeup: make(chan struct{})}
	s.Reschedule(o.Schedule)
	return s, s.load(ctx)
}

// Reschedule replaces the schedule. A running scrub follows it at once.
func (s *Scrubber) Reschedule(to Schedule) {
	if to.Open == nil {
		to.Open = func(time.Time) bool { return true }
	}
	setRate(s.limiter, to.Rate)
	setRate(s.suspects.limiter, suspectSpeed*to.Rate)
	s.schedule.Store(&to)
}

// open reports whether a scrub that nobody requested may read now.
func (s *Scrubber) open(now time.Time) bool { return s.schedule.Load().Open(now) }

// newLimiter limits reads to a number of bytes in a second; 0 is no limit.
func newLimiter(bytes int64) *rate.Limiter {
	l := rate.NewLimiter(rate.Inf, 0)
	setRate(l, bytes)
	return l
}

// setRate changes the limit of a limiter; see [newLimiter].
func setRate(l *rate.Limiter, bytes int64) {
	limit := rate.Inf
	if bytes > 0 {
		limit = rate.Limit(bytes)
	}
	l.SetBurst(int(max(minBurst, bytes/10)))
	l.SetLimit(limit)
}

// Continue continues where another process saved its position.
func (s *Scrubber) Continue(ctx context.Context) {
	if err := s.load(ctx); err != nil {
		s.Log.Error("place of the scrub is not read", "err", err)
	}
}

// Run runs the scrubs that are due, and reads suspects, until ctx ends.
func (s *Scrubber) Run(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.RunScrubs(ctx) })
	g.Go(func() error { return s.RunSuspects(ctx) })
	return g.Wait()
}

// RunScrubs runs the scrubs that are due, until ctx ends. It logs failures, and tries again. Of several
// processes with the same content, only one may do that at a time.
func (s *Scrubber) RunScrubs(ctx context.Context) error {
	var g errgroup.Group
	g.Go(func() error { return s.runScrubs(ctx) })
	g.Go(func() error { return s.runChecks(ctx) })
	return g.Wait()
}

// runChecks checks the files of all blobs every [checkEvery].
func (s *Scrubber) runChecks(ctx context.Context) error {
	for pause := dueEvery; retry.Sleep(ctx, pause, nil) == nil; pause = checkEvery {
		lost, err := s.CheckFiles(ctx)
		if err != nil && ctx.Err() == nil {
			s.Log.Error("files of blobs are not checked", "err", err)
		}
		if lost > 0 {
			s.Log.Warn("files of blobs are lost", "lost", lost)
		}
	}
	return nil
}

func (s *Scrubber) runScrubs(ctx context.Context) error {
	for ctx.Err() == nil {
		wakeup := s.awaitWakeup()
		j, err := s.due(ctx)
		if err == nil && j != nil {
			if err = s.step(ctx, *j); err == nil {
				continue
			}
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, errSuperseded) {
			s.Log.Error("scrub failed, and is tried again", "err", err)
		}
		if !errors.Is(err, errSuperseded) {
			_ = retry.Sleep(ctx, dueEvery, wakeup)
		}
	}
	s.save(context.WithoutCancel(ctx))
	return nil
}

// due returns the running scrub, or begins one if it is due; nil is none.
func (s *Scrubber) due(ctx context.Context) (*job, error) {
	now, every := s.Now(), s.schedule.Load().Every
	s.mu.Lock()
	j, since := s.state.Running, s.state.Since
	unknown := since.IsZero() || since.After(now) // at the first start, and after the clock was set back
	if unknown {
		s.state.Since, since = now, now
	}
	s.mu.Unlock()
	if unknown {
		s.save(ctx)
	}
	switch {
	case j != nil && (j.Asked || s.open(now)):
		return j, nil
	case j != nil || every == 0 || !s.open(now) || now.Sub(since) < every:
		return nil, nil
	}
	if _, err := s.CheckFiles(ctx); err != nil { // a scrub would take all blobs of a missing disk out of service
		return nil, err
	}
	return s.begin(ctx, false)
}

// Start begins a scrub at once, and ends the running one. The new one reads without limit.
func (s *Scrubber) Start(ctx context.Context) error {
	_, err := s.begin(ctx, true)
	return err
}

// DamageFound is [storage.Storage.DamageFound].
func (s *Scrubber) DamageFound() <-chan struct{} { return s.Storage.DamageFound() }

// CheckFiles checks the file of every blob without reading it; see
// [storage.Storage.CheckFiles].
func (s *Scrubber) CheckFiles(ctx context.Context) (lost int, err error) {
	return s.Storage.CheckFiles(ctx)
}

// begin begins a scrub.
func (s *Scrubber) begin(ctx context.Context, asked bool) (*job, error) {
	j := &job{Started: s.Now().UTC(), Asked: asked}
	err := s.DB.Long().View(ctx, func(tx *metadb.Tx) error {
		blobs, err := tx.TotalOfBlobs()
		if err != nil {
			return err
		}
		manifests, err := tx.TotalOfManifests()
		j.Total = progress{blobs.Count + manifests.Count, blobs.Bytes + manifests.Bytes}
		return err
	})
	if err != nil {
		return nil, err
	}
	s.Log.Info("scrub begins", "items", j.Total.Items, "bytes", j.Total.Bytes)
	s.mu.Lock()
	if old := s.state.Running; old != nil && !j.Started.After(old.Started) {
		j.Started = old.Started.Add(1)
	}
	s.state.Running, s.readingSince = j, time.Time{}
	close(s.wakeup)
	s.wakeup = make(chan struct{})
	s.mu.Unlock()
	s.save(ctx)
	return j, nil
}

func (s *Scrubber) awaitWakeup() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wakeup
}

// step reads the next page of a scrub.
func (s *Scrubber) step(ctx context.Context, j job) error {
	s.mu.Lock()
	if s.readingSince.IsZero() {
		s.from, s.readingSince = j.Done, s.Now()
	}
	due := s.Now().Sub(s.saved) >= saveEvery
	s.mu.Unlock()
	if due {
		s.save(ctx)
	}
	switch j.Phase {
	case readManifests:
		return s.stepManifests(ctx, j)
	case readBlobs:
		return s.stepBlobs(ctx, j)
	case readDamaged:
		return s.stepDamaged(ctx, j)
	}
	return s.finish(ctx, j)
}

// page returns the next rows of a scrub's phase. If there are none, the scrub enters the next
// phase.
func page[T any](ctx context.Context, s *Scrubber, j job, read func(*metadb.Tx) ([]T, error)) ([]T, error) {
	rows, err := metadb.Read(ctx, s.DB, read)
	if err == nil && len(rows) == 0 {
		err = s.advance(j.Started, (*job).next)
	}
	return rows, err
}

func (s *Scrubber) stepManifests(ctx context.Context, j job) error {
	rows, err := page(ctx, s, j, func(tx *metadb.Tx) ([]metadb.ManifestRef, error) {
		return tx.ManifestsAfter(j.Repository, j.Digest, pageSize)
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		size, reason, err := s.Storage.VerifyManifest(ctx, row.Repository, digest.Digest(row.Digest))
		if err == nil {
			err = s.pace(j)(ctx, int(size))
		}
		if err := s.recordRead(ctx, j, row, size, reason, err); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scrubber) stepBlobs(ctx context.Context, j job) error {
	rows, err := page(ctx, s, j, func(tx *metadb.Tx) ([]metadb.Blob, error) {
		return tx.Blobs(j.Digest, pageSize)
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		if !j.Asked && !s.open(s.Now()) {
			return nil
		}
		reason, err := s.Storage.VerifyBlob(ctx, digest.Digest(row.Digest), s.pace(j))
		if err := s.recordRead(ctx, j, metadb.ManifestRef{Digest: row.Digest}, row.Size, reason, err); err != nil {
			return err
		}
	}
	return nil
}

// stepDamaged checks whether blobs that are out of service are whole again.
func (s *Scrubber) stepDamaged(ctx context.Context, j job) error {
	rows, err := page(ctx, s, j, func(tx *metadb.Tx) ([]metadb.Damage, error) {
		return tx.Damages(j.Repository, j.Digest, pageSize)
	})
	if err != nil {
		return err
	}
	for _, row := range rows {
		var err error
		if row.Repository == "" {
			_, err = s.Storage.ReviveBlob(ctx, digest.Digest(row.Digest), s.pace(j))
		}
		at := metadb.ManifestRef{Repository: row.Repository, Digest: row.Digest}
		if err := s.recordRead(ctx, j, at, 0, "", err); err != nil {
			return err
		}
	}
	return nil
}

// recordRead records the result of one read. An error of a single file does not stop the scrub.
func (s *Scrubber) recordRead(
	ctx context.Context, j job, at metadb.ManifestRef, size int64, reason string, err error,
) error {
	if ctx.Err() != nil || errors.Is(err, errSuperseded) {
		return cmp.Or(context.Cause(ctx), err)
	}
	if err != nil {
		s.Log.Warn("content cannot be read again", "repo", at.Repository, "digest", at.Digest, "err", err)
	}
	return s.advance(j.Started, func(j *job) {
		j.Repository, j.Digest = at.Repository, at.Digest
		switch {
		case j.Phase == readDamaged:
			return
		case err != nil:
			j.Unread++
		case reason != "":
			j.Damaged++
		}
		j.Done.Items++
		j.Done.Bytes += size
	})
}

// advance changes the scrub that began at started, if it is still running.
func (s *Scrubber) advance(started time.Time, change func(*job)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Running == nil || !s.state.Running.Started.Equal(started) {
		return errSuperseded
	}
	j := *s.state.Running // a copy, because callers use the old one
	change(&j)
	s.state.Running = &j
	return nil
}

// finish ends a scrub.
func (s *Scrubber) finish(ctx context.Context, j job) error {
	s.mu.Lock()
	if s.state.Running == nil || !s.state.Running.Started.Equal(j.Started) {
		s.mu.Unlock()
		return errSuperseded
	}
	j.Ended = s.Now().UTC()
	s.state.Running, s.state.Last, s.state.Since = nil, &j, j.Ended
	s.mu.Unlock()
	level := slog.LevelInfo
	if j.Damaged+j.Unread > 0 {
		level = slog.LevelWarn
	}
	s.Log.Log(ctx, level, "scrub ended", "items", j.Done.Items, "bytes", j.Done.Bytes, "damaged", j.Damaged, "unread",
		j.Unread)
	s.save(ctx)
	return nil
}

// pace returns the pace of a scrub: the configured rate, or no limit for a requested one.
func (s *Scrubber) pace(j job) storage.Pace {
	return func(ctx context.Context, n int) error {
		if err := s.advance(j.Started, func(*job) {}); err != nil || j.Asked {
			return cmp.Or(err, context.Cause(ctx))
		}
		return wait(ctx, s.limiter, n)
	}
}

// wait waits until n more bytes may be read.
func wait(ctx context.Context, limiter *rate.Limiter, n int) error {
	for n > 0 {
		some := min(n, limiter.Burst())
		if err := limiter.WaitN(ctx, some); err != nil {
			return err
		}
		n -= some
	}
	return nil
}

// Status returns the progress of the running scrub, or the result of the last one. Its count of damaged
// items includes all that the scrub has found.
func (s *Scrubber) Status(ctx context.Context) (api.Scrub, error) {
	v := s.scrubStatus() // read first, so that the count has all damage of an ended scrub
	damaged, err := metadb.Read(ctx, s.DB, (*metadb.Tx).TotalOfDamages)
	v.DamagedNow = damaged.Count
	return v, err
}

// scrubStatus returns the status without the count of damaged items.
func (s *Scrubber) scrubStatus() api.Scrub {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := api.Scrub{State: api.ScrubIdle}
	if every := s.schedule.Load().Every; every > 0 && !s.state.Since.IsZero() {
		v.NextTime = api.Time(s.state.Since.Add(every))
	}
	j := s.state.Last
	switch {
	case s.state.Running != nil:
		j, v.State, v.NextTime = s.state.Running, api.ScrubRunning, nil
		if !j.Asked && !s.open(s.Now()) {
			v.State = api.ScrubWaiting
		}
	case j != nil:
		v.EndTime = api.Time(j.Ended)
	default:
		return v
	}
	v.StartTime, v.Asked = api.Time(j.Started), j.Asked
	v.ItemsTotal, v.ItemsDone, v.ItemsDamaged, v.ItemsUnread = max(j.Total.Items,
		j.Done.Items), j.Done.Items, j.Damaged, j.Unread
	v.BytesTotal, v.BytesDone = max(j.Total.Bytes, j.Done.Bytes), j.Done.Bytes
	if took := s.Now().Sub(s.readingSince); v.State == api.ScrubRunning && !s.readingSince.IsZero() && took > 0 {
		v.BytesPerSecond = int64(float64(j.Done.Bytes-s.from.Bytes) / took.Seconds())
		if v.BytesPerSecond > 0 {
			left := (v.BytesTotal - v.BytesDone) / v.BytesPerSecond
			v.EtaSeconds = &left
		}
	}
	return v
}
