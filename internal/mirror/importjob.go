package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/retry"
)

// saveInterval is how often the progress of an import is written for other processes.
const saveInterval = 2 * time.Second

// An importJob is an import that waits or runs in this process.
type importJob struct {
	*task
	row          metadb.Import
	force        bool
	source       *source
	reference    string // at the source
	destinations []destination
	cancel       context.CancelCauseFunc

	mu    sync.Mutex
	state ImportState
	known ImportStatus // from an earlier process, or the digest alone
}

// newImportJob returns the job of an import that has not ended. An earlier process may have begun it.
func (s *Service) newImportJob(row metadb.Import, cancel context.CancelCauseFunc) (*importJob, error) {
	var v importSpec
	j := &importJob{row: row, cancel: cancel, state: ImportPending}
	if err := errors.Join(json.Unmarshal(row.Spec, &v), json.Unmarshal(row.Status, &j.known)); err != nil {
		return nil, err
	}
	from, err := parseImage(v.Source)
	if err != nil {
		return nil, err
	}
	j.force, j.reference, j.known.BytesPerSecond = v.Force, from.reference(), 0
	q := ImportRequest{Images: v.Images, Repository: v.Repository}
	if j.destinations, err = q.destinations(from); err != nil {
		return nil, err
	}
	access, err := s.openAccess(from.Location, row.Secret)
	if err != nil {
		return nil, err
	}
	if j.source, err = s.source(from.Location, access); err != nil {
		return nil, err
	}
	j.task = s.newTask(s.Log.With("source", v.Source), s.importSlots, replication.Options{
		Source: importSource + row.ID, Prune: replication.PruneNone, KeepTags: !v.Force,
	})
	return j, nil
}

// startImports starts the imports that no job here runs, and stops the jobs whose import has ended.
func (s *Service) startImports(ctx context.Context) error {
	// A job records its result before it leaves this map. So the row of an import that is not in the map,
	// which is read afterwards, is up to date.
	s.mu.Lock()
	running := maps.Clone(s.imports)
	s.mu.Unlock()
	rows, err := metadb.Read(ctx, s.DB, (*metadb.Tx).UnfinishedImports)
	if err != nil {
		return err
	}
	unfinished := map[int64]bool{}
	for _, row := range rows {
		unfinished[row.Number] = true
		if running[row.ID] == nil {
			s.startImport(ctx, row)
		}
	}
	for _, j := range running {
		if !unfinished[j.row.Number] {
			j.cancel(errCancelled)
		}
	}
	return nil
}

func (s *Service) startImport(ctx context.Context, row metadb.Import) {
	ctx, cancel := context.WithCancelCause(ctx)
	j, err := s.newImportJob(row, cancel)
	if err != nil {
		s.Log.Error("import cannot begin", "import", row.ID, "err", err)
		j = &importJob{task: s.newTask(s.Log, nil, replication.Options{}), row: row, source: &source{}, cancel: cancel}
	}
	s.mu.Lock()
	s.imports[row.ID] = j
	s.mu.Unlock()
	s.jobs.Go(func() {
		defer cancel(nil)
		if err == nil {
			err = j.run(ctx)
		}
		j.end(ctx, err)
		s.mu.Lock()
		delete(s.imports, row.ID)
		s.mu.Unlock()
		s.Wake()
	})
}

// importJob returns the job of an import; nil if it does not run in this process.
func (s *Service) importJob(row metadb.Import) *importJob {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.imports[row.ID]; j != nil && j.row.Number == row.Number {
		return j
	}
	return nil
}

// status returns the status of the import. Before it runs, that is the status of an earlier process.
func (j *importJob) status() ImportStatus {
	j.mu.Lock()
	defer j.mu.Unlock()
	i := j.known
	if j.state != ImportPending {
		i.Warnings, i.Progress = j.source.warnings.list(), j.engine.Progress()
		i.BytesPerSecond, i.Problem = j.engine.Rate(), j.problem()
	}
	return i
}

// set changes the state, and saves it.
func (j *importJob) set(ctx context.Context, change func()) {
	j.mu.Lock()
	change()
	j.mu.Unlock()
	j.save(ctx)
}

// save writes the state, for other processes and for one that continues the import. If the import has ended, which
// another process may have done, the job ends.
func (j *importJob) save(ctx context.Context) {
	i := Import{ImportStatus: j.status()}
	j.mu.Lock()
	i.State = j.state
	j.mu.Unlock()
	row := withState(j.row, i)
	err := j.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.SetImport(row) })
	switch {
	case errors.Is(err, metadb.ErrNotFound):
		j.cancel(errCancelled)
	case err != nil && ctx.Err() == nil:
		j.log.Warn("progress of an import is not saved", "err", err)
	}
}

// saveOften saves the state until ctx ends, if other processes may show it.
func (j *importJob) saveOften(ctx context.Context) {
	var last replication.Progress
	for j.DB.Shared() && retry.Sleep(ctx, saveInterval, nil) == nil {
		if p := j.engine.Progress(); p != last {
			last = p
			j.save(ctx)
		}
	}
}

// run runs the import once there is a slot for it.
func (j *importJob) run(ctx context.Context) error {
	defer j.source.close()
	defer j.releaseSlot()
	if err := j.acquireSlot(ctx); err != nil {
		return err
	}
	j.log.Info("import started", "images", j.destinations)
	j.set(ctx, func() { j.state = ImportRunning })
	saving, stop := context.WithCancel(ctx)
	var saver sync.WaitGroup
	saver.Go(func() { j.saveOften(saving) })
	defer saver.Wait()
	defer stop()
	for {
		err := j.copy(ctx)
		if !errors.Is(err, metadb.ErrUnavailable) || errors.As(err, &unreachableError{}) {
			return err
		}
		j.log.Warn("import waits for the database", "err", err)
		if err := j.pause(ctx, unavailablePause, nil); err != nil {
			return err
		}
	}
}

// unavailablePause is how long an import waits for a database that does not answer.
const unavailablePause = 5 * time.Second

// end records how the import ended: the error is why it failed. If the service stops instead, the import is left as it
// is, and continues with the next [Service.Run].
func (j *importJob) end(ctx context.Context, why error) {
	i := Import{ImportStatus: j.status(), State: ImportSucceeded, EndedAt: j.Now()}
	i.BytesPerSecond, i.Problem, i.Hint = 0, "", ""
	outcome := "succeeded"
	if why != nil {
		i.State, i.Problem, i.Hint = ImportFailed, why.Error(), hint(why)
		outcome = "failed: " + i.Problem
	}
	row := withState(j.row, i)
	for ctx.Err() == nil {
		err := j.DB.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
			return errors.Join(tx.EndImport(row), j.forget(tx, why == nil),
				j.audit(tx, row, row.Sender, "import", outcome))
		})
		switch {
		case errors.Is(err, metadb.ErrNotFound):
			j.cancel(errCancelled)
		case err != nil:
			j.log.Error("end of an import is not recorded", "err", err)
			_ = retry.Sleep(ctx, unavailablePause, nil)
		case why != nil:
			j.log.Warn("import failed", "err", why)
			return
		default:
			j.log.Info("import finished", "images", j.destinations, "bytes", i.Progress.Received)
			return
		}
	}
	if !errors.Is(context.Cause(ctx), errCancelled) {
		j.log.Info("import stopped; it continues from the same byte", "err", context.Cause(ctx))
		return
	}
	j.log.Info("import cancelled", "images", j.destinations)
	// What was recorded since the import was cancelled.
	err := j.DB.UpdateWithReserve(context.WithoutCancel(ctx), func(tx *metadb.Tx) error { return j.forget(tx, true) })
	if err != nil {
		j.log.Error("items of a cancelled import are not deleted", "err", err)
	}
}

// forget deletes the records of the import's items. If its content is not needed any more, or is here, it also ends
// the leases that kept the content from garbage collection.
func (j *importJob) forget(tx *metadb.Tx, leases bool) error {
	source := importSource + j.row.ID
	if leases {
		return replication.ForgetSource(tx, source)
	}
	return tx.ForgetSource(source)
}

// copy fetches the image.
func (j *importJob) copy(ctx context.Context) error {
	d := j.status().Digest
	if d == "" {
		var err error
		if d, err = j.resolve(ctx); err != nil {
			return err
		}
		j.set(ctx, func() { j.known.Digest = d })
	}
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
		if err == nil && string(tag.Digest) != i.Digest && !j.force {
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
