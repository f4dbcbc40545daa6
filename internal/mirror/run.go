package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
)

// A run is one run of a mirror rule. [run.sync] shows all its steps.
type run struct {
	*task
	rule      metadb.MirrorRule
	spec      Spec
	host      string  // of the source
	src       *source // nil until it is known
	cancel    context.CancelCauseFunc
	reread    chan struct{} // holds a request to read a shrunken listing again
	rereadFor time.Time     // since when the last such request is due; only the service's loop uses it
}

// newRun returns a run that already has one of the service's slots.
func newRun(s *Service, rule metadb.MirrorRule, v Spec, cancel context.CancelCauseFunc) *run {
	log := s.Log.With("rule", rule.Name, "source", v.Source, "repo", v.Repository)
	engine := replication.Options{Source: SourceName(rule.Name), Prune: replication.PruneTracked}
	t := s.newTask(log, s.ruleSlots, engine)
	t.inSlot = true
	return &run{task: t, rule: rule, spec: v, cancel: cancel, reread: make(chan struct{}, 1)}
}

// requestReread makes a run that waits for the confirmation of a loss read the list
// immediately, because the rule is due again since the given time. It does so once for
// each such time.
func (r *run) requestReread(since time.Time) {
	if r.rereadFor.Equal(since) {
		return
	}
	r.rereadFor = since
	select {
	case r.reread <- struct{}{}:
	default: // a request is already pending
	}
}

func (r *run) status() RunStatus {
	return RunStatus{Running: true, Progress: r.engine.Progress(), Problem: r.problem(),
		BytesPerSecond: r.engine.Rate()}
}

// execute executes the run, and reports whether its result was recorded.
func (r *run) execute(ctx context.Context) (recorded bool) {
	r.rule.StartedAt = r.Now()
	r.log.Info("mirror run started")
	r.record(ctx)
	result, err := r.sync(ctx)
	if result.Failed > 0 && result.NoSpace == 0 && r.warnOfFailures(ctx) {
		result.Failed, result.Permanent = 0, 0
	}
	now := r.Now()
	attrs := []any{"items", result.Synced, "removed", result.Removed, "failed", result.Failed, "bytes", result.Received,
		"took", now.Sub(r.rule.StartedAt).Round(time.Millisecond)}
	r.rule.EndedAt, r.rule.Error = now, ""
	if r.src != nil {
		r.rule.Warnings = r.src.warnings.text()
	}
	temporary := false // the failure is worth a retry
	switch {
	case err == nil && result.Failed == 0:
		r.rule.SucceededAt = now
		r.log.Info("mirror run finished", attrs...)
	case err == nil:
		r.rule.Error, temporary = "some tags failed; see failures", result.Failed > result.Permanent
		if full := result.DiskFull(); full != "" {
			r.rule.Error += "; " + full
		}
		r.log.Warn("mirror run finished with failures", attrs...)
	case errors.Is(err, errWindowClosed):
		r.rule.Error = "the window closed before the run was done; the next run resumes from the same byte"
		r.log.Info("mirror run stopped; the next run resumes from the same byte", append(attrs, "err", err)...)
	case ctx.Err() != nil: // the rule was changed, or the process stops: the run stays due
		r.log.Info("mirror run stopped; the next run resumes from the same byte", append(attrs, "err", err)...)
		return r.record(context.WithoutCancel(ctx))
	default:
		r.rule.Error, temporary = err.Error(), !permanent(err) || result.Failed > result.Permanent
		if text := hint(err); text != "" {
			r.rule.Error += "; " + text
		}
		r.log.Warn("mirror run failed", append(attrs, "err", err)...)
	}
	if temporary {
		r.retryLater(r.rule.Name, max(retry.After(err), r.hosts.left(hostRequests{host: r.host})))
	} else {
		r.clearRetry(r.rule.Name)
		r.rule.RetrySince = time.Time{}
	}
	return r.record(context.WithoutCancel(ctx))
}

// warnOfFailures adds a warning for the first optional item that failed. It reports
// whether all failed items are optional.
func (r *run) warnOfFailures(ctx context.Context) (allOptional bool) {
	all, err := metadb.Read(ctx, r.DB, func(tx *metadb.Tx) (failures, error) {
		return failuresOf(tx, SourceName(r.rule.Name))
	})
	if err == nil && all.optional != nil {
		name := cmp.Or(all.optional.Tag, all.optional.Item)
		r.src.warnings.add(ReferrersUnavailable, fmt.Sprintf("%s: %s", name, all.optional.Error))
	}
	return err == nil && all.required == nil
}

// record writes the state of the run to the database, and reports whether it could. If
// the rule was deleted in the meantime, there is nothing to record.
func (r *run) record(ctx context.Context) bool {
	err := r.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.SetMirrorRun(r.rule) })
	if err == nil || errors.Is(err, metadb.ErrNotFound) {
		return true
	}
	if ctx.Err() == nil {
		r.log.Error("mirror run is not recorded", "err", err)
	}
	return false
}

// sync brings the repository in sync with the source. If the source lists much less than
// before, the missing items are removed only once a second list confirms the loss.
func (r *run) sync(ctx context.Context) (total replication.Result, err error) {
	src, err := r.source()
	if err != nil {
		return total, err
	}
	defer src.close()
	filters, err := subscription.ParseTags(r.spec.TagFilters, 0)
	if err != nil {
		return total, err
	}
	for l := r.newListing(src, filters); ; {
		if err := r.ask(ctx, func() error { return l.readAndSelectTags(ctx) }); err != nil {
			return total, err
		}
		result, err := r.follow(ctx, l)
		total = addResults(total, result)
		if err != nil {
			return total, err
		}
		s := r.suspectedLoss().next(l.kept, time.Now())
		r.setSuspectedLoss(s)
		if s.names == nil {
			return total, l.err()
		}
		if err := r.awaitConfirmation(ctx, s, len(l.kept), l.count); err != nil {
			return total, err
		}
	}
}

// follow brings the repository in sync with a listing. The children of an index, and
// their signatures, are known only once they are here. Therefore the items are collected
// again after each fetch, until they stay the same.
func (r *run) follow(ctx context.Context, l *listing) (total replication.Result, _ error) {
	for applied := (itemSet)(nil); ; {
		var items itemSet
		if err := r.ask(ctx, func() (err error) { items, err = l.items(ctx); return err }); err != nil {
			return total, err
		}
		if maps.Equal(items, applied) {
			return total, nil
		}
		l.source.addItems(items)
		listing := replication.Listing{Repository: r.spec.Repository, Items: items.sorted()}
		if err := r.engine.ApplyListing(ctx, listing); err != nil {
			return total, err
		}
		applied = items
		result, err := r.fetch(ctx, l.source, progressTimeout)
		total = addResults(total, result)
		if err != nil {
			return total, err
		}
	}
}

// ask is [task.ask] with retries for up to [progressTimeout].
func (r *run) ask(ctx context.Context, try func() error) error {
	since := r.Now()
	return r.task.ask(ctx, func(err error) bool { return r.Now().Sub(since)+retry.After(err) < progressTimeout }, try)
}

// partOf names the part of an index that a rule keeps; "" is the whole index.
func partOf(v Spec) string {
	if len(v.Platforms) == 0 {
		return ""
	}
	return subscription.Subscription{Platforms: v.Platforms}.ID()
}

// source returns the rule's source.
func (r *run) source() (*source, error) {
	location, err := ParseLocation(r.spec.Source)
	if err != nil {
		return nil, err
	}
	password, err := r.Key.Decrypt(location, r.rule.Secret)
	if err != nil {
		return nil, err
	}
	src, err := r.Service.source(location, access{r.spec.Username, password, r.spec.CA})
	if err != nil {
		return nil, err
	}
	r.host, r.src = src.registry.Host(), src
	src.platforms, err = subscription.ParsePlatforms(r.spec.Platforms)
	return src, err
}
