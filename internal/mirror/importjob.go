package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
)

// An importJob is a waiting, running or remembered import.
type importJob struct {
	*task
	request      ImportRequest
	source       *source
	reference    string // at the source
	destinations []destination

	mu    sync.Mutex
	state Import
}

func newImportJob(s *Service, q ImportRequest, from *source, reference string, to []destination) *importJob {
	id := importID(q.Source, to)
	j := &importJob{
		task: s.newTask(s.Log.With("source", q.Source), s.importSlots, replication.Options{
			Source: importSource + id, Prune: replication.PruneNone, KeepTags: !q.Force,
		}),
		request: q, source: from, reference: reference, destinations: to,
		state: Import{ID: id, Source: q.Source, State: ImportPending, StartedAt: s.Now()},
	}
	for _, d := range to {
		j.state.Targets = append(j.state.Targets, d.String())
	}
	return j
}

// snapshot returns the state of the import.
func (j *importJob) snapshot() Import {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.state
	i.Warnings = j.source.warnings.list()
	if i.Progress = j.engine.Progress(); i.EndedAt.IsZero() {
		i.BytesPerSecond, i.Problem = j.engine.Rate(), j.problem()
	}
	return i
}

// ended reports whether the import has ended.
func (j *importJob) ended() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !j.state.EndedAt.IsZero()
}

func (j *importJob) set(change func(*Import)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	change(&j.state)
}

// run runs the import once there is a slot for it.
func (j *importJob) run(ctx context.Context) {
	err := j.acquireSlot(ctx)
	defer j.releaseSlot()
	if err == nil {
		j.set(func(i *Import) { i.State = ImportRunning })
		j.log.Info("import started", "images", j.state.Targets)
		err = j.copy(ctx)
		j.source.close()
	}
	if err != nil && ctx.Err() != nil {
		err = ErrStopped
	}
	if forgetErr := j.forget(context.WithoutCancel(ctx), err == nil); err == nil {
		err = forgetErr
	}
	j.set(func(i *Import) {
		i.EndedAt, i.State = j.Now(), ImportSucceeded
		if err != nil {
			i.State, i.Problem, i.Hint = ImportFailed, err.Error(), hint(err)
		}
	})
	if j.request.Ended != nil {
		j.request.Ended(j.snapshot())
	}
	if err != nil {
		j.log.Warn("import failed", "err", err)
		return
	}
	j.log.Info("import finished", "images", j.state.Targets, "bytes", j.engine.Progress().Received)
}

// forget deletes the records of the import's items. If it is done, it also ends the
// leases that kept its content from garbage collection.
func (j *importJob) forget(ctx context.Context, done bool) error {
	source := importSource + j.state.ID
	return j.DB.Update(ctx, func(tx *metadb.Tx) error {
		if done {
			return replication.ForgetSource(tx, source)
		}
		return tx.ForgetSource(source)
	})
}

// copy fetches the image.
func (j *importJob) copy(ctx context.Context) error {
	d, err := j.resolve(ctx)
	if err != nil {
		return err
	}
	j.set(func(i *Import) { i.Digest = d })
	for _, to := range j.destinations {
		err := j.engine.ApplyListing(ctx, replication.Listing{
			Repository: to.Repository, Short: true, Items: []replication.ListedItem{{Tag: to.Tag, Digest: d}},
		})
		if err != nil {
			return err
		}
	}
	result, err := j.fetch(ctx, j.source, noTimeout)
	if err != nil || result.Failed == 0 {
		return err
	}
	return j.itemsError(ctx)
}

// resolve returns the digest of the image at the source.
func (j *importJob) resolve(ctx context.Context) (d digest.Digest, err error) {
	tries := 0
	more := func(error) bool { tries++; return tries < importTries }
	err = j.ask(ctx, more, func() (err error) {
		d, err = j.source.digest(ctx, j.reference)
		return err
	})
	switch {
	case err == nil && d == "":
		err = j.source.noManifest(ctx, j.reference)
	case err != nil && !permanent(err) && ctx.Err() == nil:
		err = unreachableError{err}
	}
	return d, err
}

// itemsError returns the errors of all images that are not here. If an image is here, and
// only some of its referrers are not, that is a warning and not an error.
func (j *importJob) itemsError(ctx context.Context) error {
	items, err := j.engine.Items(ctx, metadb.AnySyncItem, "", "", len(j.destinations))
	for _, i := range items {
		if i.State != replication.Failed {
			continue
		}
		itemErr := j.itemError(ctx, i)
		if itemErr == nil {
			j.source.warnings.add(ReferrersUnavailable, i.Error+"; the image was fetched without it")
			continue
		}
		err = errors.Join(err, fmt.Errorf("%s: %w", destination{i.Repository, i.Tag}, itemErr))
	}
	return err
}

// itemError returns the reason why an image is not here; nil if it is here, with its
// tag. If the tag was created during the import, the error is [ErrExists].
func (j *importJob) itemError(ctx context.Context, i metadb.SyncItem) error {
	if i.Tag != "" {
		tag, err := j.Storage.Tag(ctx, i.Repository, i.Tag)
		if err == nil && string(tag.Digest) != i.Digest && !j.request.Force {
			return ErrExists
		}
		if err != nil || string(tag.Digest) != i.Digest {
			return errors.New(i.Error)
		}
	}
	if !j.isWhole(ctx, i.Repository, digest.Digest(i.Digest), map[digest.Digest]bool{}) {
		return errors.New(i.Error)
	}
	return nil
}

// isWhole reports whether a manifest is here with all manifests below it. A rule with
// platforms may have fetched it without some of them. It skips those in seen.
func (j *importJob) isWhole(ctx context.Context, repository string, d digest.Digest, seen map[digest.Digest]bool) bool {
	if seen[d] {
		return true
	}
	seen[d] = true
	m, err := j.Storage.Manifest(ctx, repository, string(d))
	if err != nil {
		return false
	}
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	return err == nil && !slices.ContainsFunc(parsed.Manifests, func(child oci.Descriptor) bool {
		return !j.isWhole(ctx, repository, child.Digest, seen)
	})
}
