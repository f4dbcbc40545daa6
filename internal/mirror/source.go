package mirror

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/replication"
	"ferry/internal/subscription"
)

// Limits on what is followed at a source that nobody here runs.
const (
	maxDepth     = 8      // indexes within indexes
	maxReferrers = 4      // referrers of referrers
	maxManifests = 10_000 // that belong to one wanted manifest
	planners     = 8      // manifests that are asked for at a time
)

// A source is one repository of another registry. It plans by walking
// manifests with the registry's own API: the registry need know nothing of
// Ferry. Whatever repository here wants something, it is looked for there.
type source struct {
	registry   *remote.Registry
	repository string
	platforms  subscription.Platforms
	close      func()      // of its connections, once nothing is asked any more
	unlisted   atomic.Bool // it does not list referrers, as was seen

	mu      sync.Mutex
	answers map[digest.Digest][]digest.Digest // referrers, by subject
}

var _ replication.Source = (*source)(nil)

// Plan implements [replication.Source]. Wanted manifests are read side by
// side, and each comes whole: what is below it, itself, its referrers.
func (s *source) Plan(ctx context.Context, want, have []replication.Ref, fn func(replication.PlanEntry) error) error {
	p := &planner{source: s, have: map[replication.Ref]bool{}, done: map[replication.Ref]bool{}, fn: fn}
	for _, w := range have {
		p.have[w] = true
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(planners)
	for _, w := range want {
		g.Go(func() error { return p.plan(ctx, w) })
	}
	return g.Wait()
}

// Blob implements [replication.Source].
func (s *source) Blob(ctx context.Context, _ string, d digest.Digest, offset, length int64) (io.ReadCloser, int64, error) {
	return s.registry.Blob(ctx, s.repository, d, offset, length)
}

// A planner answers one request for a plan.
type planner struct {
	*source
	have map[replication.Ref]bool // manifests that are here, with all that is below them

	mu   sync.Mutex
	done map[replication.Ref]bool // manifests that need no second entry
	fn   func(replication.PlanEntry) error
}

// plan tells of one wanted manifest.
func (p *planner) plan(ctx context.Context, want replication.Ref) error {
	w := &walk{planner: p, to: want.Repository, seen: map[digest.Digest]bool{}}
	if err := w.manifest(ctx, want.Digest, 0, 0); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range w.entries {
		if m := e.Manifest; m != nil {
			if p.done[m.Ref] {
				continue
			}
			p.done[m.Ref] = true
		}
		if err := p.fn(e); err != nil {
			return err
		}
	}
	return p.fn(replication.PlanEntry{Complete: &want})
}

// known reports whether the manifest has an entry.
func (p *planner) known(key replication.Ref) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[key]
}

// A walk collects the entries for one wanted manifest, in dependency order.
type walk struct {
	*planner
	to      string // the repository here
	entries []replication.PlanEntry
	seen    map[digest.Digest]bool
}

func (w *walk) manifest(ctx context.Context, d digest.Digest, depth, referrers int) error {
	key := replication.Ref{Repository: w.to, Digest: d}
	if w.seen[d] || w.known(key) {
		return nil
	}
	w.seen[d] = true
	if w.have[key] {
		return w.referrers(ctx, d, depth, referrers)
	}
	if depth > maxDepth || len(w.seen) > maxManifests {
		w.missing(d, "too many manifests belong to one")
		return nil
	}
	m, err := w.registry.Manifest(ctx, w.repository, string(d))
	if absent(err) || errors.Is(err, oci.ErrTooLarge) {
		w.missing(d, err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		w.missing(d, err.Error())
		return nil
	}
	var left []digest.Digest
	leftOut := w.platforms.LeftOut(parsed.Manifests)
	for _, child := range parsed.Manifests {
		if leftOut[child.Digest] {
			left = append(left, child.Digest)
			continue
		}
		if err := w.manifest(ctx, child.Digest, depth+1, referrers); err != nil {
			return err
		}
	}
	w.entries = append(w.entries, replication.PlanEntry{Manifest: &replication.PlanManifest{
		Ref: key, MediaType: m.MediaType, Payload: m.Payload, OmittedChildren: left,
	}})
	return w.referrers(ctx, d, depth, referrers)
}

// referrers adds what has d for its subject.
func (w *walk) referrers(ctx context.Context, d digest.Digest, depth, referrers int) error {
	if referrers == maxReferrers {
		return nil
	}
	all, err := w.source.referrers(ctx, d)
	if err != nil {
		return err
	}
	for _, r := range all {
		if err := w.manifest(ctx, r, depth, referrers+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) missing(d digest.Digest, reason string) {
	w.entries = append(w.entries, replication.PlanEntry{Missing: &replication.PlanMissing{
		Ref: replication.Ref{Repository: w.to, Digest: d}, Reason: reason,
	}})
}

// absent reports whether the source does not have what was asked for.
func absent(err error) bool {
	return errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown)
}
