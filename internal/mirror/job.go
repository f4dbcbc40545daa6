package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/replication"
)

// A job is an import on its way.
type job struct {
	*Service
	request   ImportRequest
	source    *source
	reference string // at the source
	items     []destination
	engine    *replication.Engine

	mu    sync.Mutex
	state Import
}

func newJob(s *Service, q ImportRequest, from *source, reference string, items []destination) *job {
	j := &job{Service: s, request: q, source: from, reference: reference, items: items}
	j.state = Import{ID: importID(q.Source, items), Source: q.Source, State: ImportPending, StartedAt: s.Now()}
	for _, i := range items {
		j.state.Targets = append(j.state.Targets, target(i.Repository, i.Tag))
	}
	j.engine = s.engine(importSource+j.state.ID, replication.PruneNone, !q.Force)
	return j
}

// now returns how the import is.
func (j *job) now() Import {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.state
	if i.Progress = j.engine.Progress(); i.EndedAt.IsZero() {
		i.BytesPerSecond, i.Trouble = j.engine.Rate(), cmp.Or(i.Trouble, waiting(j.engine.Trouble()))
	}
	return i
}

// over reports whether the import has ended.
func (j *job) over() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.state.EndedAt.IsZero()
}

func (j *job) set(change func(*Import)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.state)
}

// run makes the import once it is its turn.
func (j *job) run() {
	ctx := j.life
	var err error
	select {
	case j.turns <- struct{}{}:
		defer func() { <-j.turns }()
		j.set(func(i *Import) { i.State = ImportRunning })
		j.Log.Info("import started", "source", j.state.Source, "images", j.state.Targets)
		err = j.bring(ctx)
		j.source.close()
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	if err != nil && ctx.Err() != nil {
		err = ErrStopped
	}
	if discardErr := j.discard(context.WithoutCancel(ctx), importSource+j.state.ID, err == nil); err == nil {
		err = discardErr
	}
	j.set(func(i *Import) {
		i.EndedAt, i.State, i.Trouble = j.Now(), ImportSucceeded, ""
		if err != nil {
			i.State, i.Trouble, i.Advice = ImportFailed, err.Error(), advice(err)
		}
	})
	if err != nil {
		j.Log.Warn("import failed", "source", j.state.Source, "err", err)
		return
	}
	j.Log.Info("import finished", "source", j.state.Source, "images", j.state.Targets, "bytes", j.engine.Progress().Received)
}

// bring brings the image here.
func (j *job) bring(ctx context.Context) error {
	d, err := j.resolve(ctx)
	if err != nil {
		return err
	}
	j.set(func(i *Import) { i.Digest, i.Trouble = d, "" })
	for _, to := range j.items {
		err := j.engine.ApplyListing(ctx, replication.Listing{
			Repository: to.Repository, Short: true, Items: []replication.ListedItem{{Tag: to.Tag, Digest: d}},
		})
		if err != nil {
			return err
		}
	}
	result, err := j.engine.Sync(ctx, j.source)
	if err != nil || result.Failed == 0 {
		return err
	}
	return j.failure(ctx)
}

// resolve asks the source what the image is.
func (j *job) resolve(ctx context.Context) (d digest.Digest, err error) {
	tries := 0
	err = persist(ctx, func(err error) bool {
		tries++
		j.set(func(i *Import) { i.Trouble = waiting(heldUntil(err, j.Now()), err) })
		return tries < importTries
	}, func() error {
		d, err = j.source.digest(ctx, j.reference)
		return err
	})
	switch {
	case err == nil && d == "":
		err = j.source.no(ctx, j.reference)
	case err != nil && !lasting(err) && ctx.Err() == nil:
		err = unreachableError{err}
	}
	return d, err
}

// failure says why an item did not come: where its tag appeared here
// meanwhile, in the words for one that was here before.
func (j *job) failure(ctx context.Context) error {
	items, err := j.engine.Items(ctx, "", "", len(j.items))
	for _, i := range items {
		if i.State != replication.Failed {
			continue
		}
		why := errors.New(i.Err)
		if tag, err := j.Storage.Tag(ctx, i.Repository, i.Tag); err == nil && tag.Digest != i.Digest && !j.request.Force {
			why = ErrExists
		}
		err = errors.Join(err, fmt.Errorf("%s: %w", target(i.Repository, i.Tag), why))
	}
	return err
}

// target names what an item is here.
func target(repository, tag string) string {
	if tag == "" {
		return repository
	}
	return repository + ":" + tag
}
