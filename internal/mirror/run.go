package mirror

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
)

// A run is one run of a rule.
type run struct {
	*Service
	rule    metadb.MirrorRule
	spec    Spec
	engine  *replication.Engine
	host    string // of the source
	cancel  context.CancelCauseFunc
	trouble atomic.Value // a string
}

func newRun(s *Service, rule metadb.MirrorRule, v Spec, cancel context.CancelCauseFunc) *run {
	r := &run{Service: s, rule: rule, spec: v, cancel: cancel}
	r.trouble.Store("")
	r.engine = s.engine(SourceName(rule.Name), replication.PruneTracked, false)
	return r
}

// engine returns an engine for a source of the given name.
func (s *Service) engine(source string, prune replication.Prune, keepTags bool) *replication.Engine {
	return replication.New(replication.Options{
		Storage: s.Storage, DB: s.DB, Log: s.Log, Now: s.Now, Source: source, Prune: prune, KeepTags: keepTags,
		ChunkSize: s.ChunkSize, Connections: s.Connections,
	})
}

func (r *run) state() State {
	trouble := cmp.Or(r.trouble.Load().(string), waiting(r.engine.Trouble()))
	return State{Running: true, Progress: r.engine.Progress(), Trouble: trouble, BytesPerSecond: r.engine.Rate()}
}

// all makes the run, and reports whether it could note how it went.
func (r *run) all(ctx context.Context) (noted bool) {
	log := r.Log.With("rule", r.rule.Name, "source", r.spec.Source, "repo", r.spec.Repository)
	r.rule.StartedAt = r.Now()
	log.Info("mirror run started")
	r.note(ctx, r.rule)
	result, err := r.sync(ctx)
	now := r.Now()
	attrs := []any{"items", result.Synced, "removed", result.Removed, "failed", result.Failed, "bytes", result.Received,
		"took", now.Sub(r.rule.StartedAt).Round(time.Millisecond)}
	r.rule.EndedAt, r.rule.Error = now, ""
	owed := false // by what may pass
	switch {
	case err == nil && result.Failed == 0:
		r.rule.SucceededAt = now
		log.Info("mirror run finished", attrs...)
	case err == nil:
		r.rule.Error, owed = "some tags failed; see failures", result.Failed > result.Refused
		log.Warn("mirror run finished with failures", attrs...)
	case errors.Is(err, errWindowClosed):
		r.rule.Error = "the window closed before everything was here; the next goes on from the same byte"
		log.Info("mirror run stopped, and goes on from the same byte", append(attrs, "err", err)...)
	case ctx.Err() != nil: // the rule was changed, or the program stops: it is due again
		log.Info("mirror run stopped, and goes on from the same byte", append(attrs, "err", err)...)
		return r.note(context.WithoutCancel(ctx), r.rule)
	default:
		r.rule.Error, owed = advised(err), !lasting(err)
		log.Warn("mirror run failed", append(attrs, "err", err)...)
	}
	if owed {
		r.retryLater(r.rule.Name, max(retry.After(err), r.hosts.left(r.host)))
	} else {
		r.clearRetry(r.rule.Name)
		r.rule.OwedAt = time.Time{}
	}
	return r.note(context.WithoutCancel(ctx), r.rule)
}

// note writes how the run goes, unless the rule was deleted meanwhile, and
// reports whether that is so.
func (r *run) note(ctx context.Context, rule metadb.MirrorRule) bool {
	err := r.DB.Update(ctx, func(tx *metadb.Tx) error { return tx.SetMirrorRun(rule) })
	if err == nil || errors.Is(err, metadb.ErrNotFound) {
		return true
	}
	if ctx.Err() == nil {
		r.Log.Error("mirror run is not noted", "rule", rule.Name, "err", err)
	}
	return false
}

// sync brings the repository in step with the source as it is now.
func (r *run) sync(ctx context.Context) (total replication.Result, err error) {
	src, err := r.source()
	if err != nil {
		return total, err
	}
	defer src.close()
	in, err := subscription.ParseTags(r.spec.TagFilters, 0)
	if err != nil {
		return total, err
	}
	if src.platforms, err = subscription.ParsePlatforms(r.spec.Platforms); err != nil {
		return total, err
	}
	var l *listing
	if err := r.persist(ctx, func() error { l, err = src.list(ctx, r.spec.Repository, in); return err }); err != nil {
		return total, err
	}
	if err := r.persist(ctx, func() error { return l.look(ctx) }); err != nil {
		return total, err
	}
	if _, err := r.belongings(ctx, l); err != nil {
		return total, err
	}
	// What is signed is known once it is here, where it is below an index, and
	// may be gone by then: so there are two rounds where the second differs.
	for changed := true; changed; {
		if err := r.engine.ApplyListing(ctx, l.listing(partOf(r.spec))); err != nil {
			return total, err
		}
		result, err := r.fetch(ctx, src)
		total = added(total, result)
		if err != nil {
			return total, err
		}
		if changed, err = r.belongings(ctx, l); err != nil {
			return total, err
		}
	}
	return total, l.whole()
}

// partOf tells which part of an index the rule keeps; "" is all of it.
func partOf(v Spec) string {
	if len(v.Platforms) == 0 {
		return ""
	}
	return subscription.Subscription{Platforms: v.Platforms}.ID()
}

// fetch lets the engine work until nothing comes any more.
func (r *run) fetch(ctx context.Context, src *source) (replication.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		last, since := r.engine.Progress(), r.Now()
		for ctx.Err() == nil {
			retry.Sleep(ctx, glance, nil)
			if now := r.engine.Progress(); now != last {
				last, since = now, r.Now()
			} else if r.Now().Sub(since) >= patience {
				cancel(errNothingComes)
			}
		}
	}()
	defer func() {
		cancel(nil)
		<-watched
	}()
	return r.engine.Sync(ctx, src)
}

// added is what two Syncs in a row did. What failed in the last one counts.
func added(a, b replication.Result) replication.Result {
	b.Synced, b.Removed, b.Received = a.Synced+b.Synced, a.Removed+b.Removed, a.Received+b.Received
	return b
}

// source returns the rule's source.
func (r *run) source() (*source, error) {
	location, err := ParseLocation(r.spec.Source)
	if err != nil {
		return nil, err
	}
	password, err := r.Sealer.Open(location, r.rule.Secret)
	if err != nil {
		return nil, err
	}
	src, err := r.Service.source(location, access{r.spec.Username, password, r.spec.CA})
	if err == nil {
		r.host = src.registry.Host()
	}
	return src, err
}

// belongings finds what goes along with what is here, and reports whether that
// changed.
func (r *run) belongings(ctx context.Context, l *listing) (changed bool, _ error) {
	changed, err := r.companions(ctx, l)
	if err != nil {
		return false, err
	}
	err = r.persist(ctx, func() error {
		others, err := r.referrers(ctx, l)
		changed = changed || others
		return err
	})
	return changed, err
}

// companions finds what signers made for what is here, and forgets what they
// made for what is here no more. It reports whether there was any of either.
func (r *run) companions(ctx context.Context, l *listing) (changed bool, _ error) {
	var failure error
	has := func(subject digest.Digest) bool {
		has, err := r.Storage.HasManifest(ctx, r.spec.Repository, subject)
		failure = errors.Join(failure, err)
		return has
	}
	before := len(l.found)
	l.forget(has)
	kept := len(l.found)
	err := r.persist(ctx, func() error {
		if err := l.companions(ctx, has); err != nil {
			return err
		}
		return l.confirm(ctx, func(tag string) (digest.Digest, error) { return r.known(ctx, tag) })
	})
	return kept != before || len(l.found) != kept, errors.Join(err, failure)
}

// known is what the rule last heard that a tag is; "" is that it has not, or
// that the tag is to go.
func (r *run) known(ctx context.Context, tag string) (d digest.Digest, _ error) {
	err := r.DB.View(ctx, func(tx *metadb.Tx) error {
		item, err := tx.SyncItem(SourceName(r.rule.Name), r.spec.Repository, tag)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		d = digest.Digest(item.Digest)
		return err
	})
	return d, err
}

// persist tries until the source answers, for as long as it deserves.
func (r *run) persist(ctx context.Context, try func() error) error {
	defer r.trouble.Store("")
	since := r.Now()
	return persist(ctx, func(err error) bool {
		if r.trouble.Swap(waiting(heldUntil(err, r.Now()), err)) == "" {
			r.Log.Warn("mirror source does not answer, and is asked again", "rule", r.rule.Name, "err", err)
		}
		return r.Now().Sub(since)+retry.After(err) < patience
	}, try)
}
