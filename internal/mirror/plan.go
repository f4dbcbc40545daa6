package mirror

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/replication"
	"ferry/internal/retry"
)

// A planner answers one request for a plan.
type planner struct {
	*source
	have map[replication.Ref]bool // manifests that are here, with everything below them

	mu       sync.Mutex
	done     map[replication.Ref]bool // manifests that have an entry
	fn       func(replication.PlanEntry) error
	complete int                       // number of wanted manifests that were read
	failed   []replication.PlanMissing // wanted manifests with a temporary failure
	failure  error                     // the last of these failures
}

// plan emits the entries for one wanted manifest.
func (p *planner) plan(ctx context.Context, want replication.Ref) error {
	w := &walk{planner: p, to: want.Repository, seen: map[digest.Digest]bool{}}
	err := w.manifest(ctx, want.Digest, 0, 0)
	if err != nil && !isItemError(err) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, replication.PlanMissing{Ref: want, Reason: err.Error(), Temporary: true})
		p.failure = err
		if p.complete == 0 && len(p.failed) >= planners && p.askAgain() { // probably the whole source fails
			return err
		}
		return nil
	}
	p.complete++
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

// finish emits entries for the missing manifests. If no manifest could be read, and a
// retry may help, it returns the failure instead.
func (p *planner) finish(ctx context.Context) error {
	if p.complete > 0 {
		p.source.mu.Lock()
		p.emptySince = time.Time{}
		p.source.mu.Unlock()
	} else if p.failure != nil {
		if p.askAgain() {
			return p.failure
		}
		if _, err := p.registry.HasRepository(ctx, p.repository); err != nil { // an outage
			return p.failure
		}
	}
	for _, m := range p.failed {
		if err := p.fn(replication.PlanEntry{Missing: &m}); err != nil {
			return err
		}
	}
	return nil
}

// askAgain reports whether to retry a plan for which the source provided no wanted
// manifest.
func (s *source) askAgain() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.emptySince.IsZero() {
		s.emptySince = time.Now()
	}
	return time.Since(s.emptySince) < planTimeout
}

// isDone reports whether the manifest already has an entry.
func (p *planner) isDone(key replication.Ref) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done[key]
}

// A walk collects the entries for one wanted manifest, in dependency order.
type walk struct {
	*planner
	to      string // the local repository
	entries []replication.PlanEntry
	seen    map[digest.Digest]bool
}

func (w *walk) manifest(ctx context.Context, d digest.Digest, depth, referrers int) error {
	key := replication.Ref{Repository: w.to, Digest: d}
	if w.seen[d] || w.isDone(key) {
		return nil
	}
	w.seen[d] = true
	if w.have[key] {
		return w.referrers(ctx, d, depth, referrers)
	}
	if depth > maxDepth || len(w.seen) > maxManifests {
		w.missing(replication.PlanMissing{Ref: key, Reason: "too many manifests belong to one image"})
		return nil
	}
	optional := referrers > 0 || w.isOptional(d)
	m, parsed, skip, err := w.read(ctx, d, optional)
	if err != nil && (isItemError(err) && retry.Permanent(err) || skip) {
		w.missing(replication.PlanMissing{
			Ref: key, Reason: err.Error(), Temporary: !optional && !retry.Permanent(err),
			Unsupported: errors.Is(err, oci.ErrTooLarge) || errors.Is(err, oci.ErrManifestInvalid),
		})
		if optional {
			w.warnings.add(ReferrersUnavailable, err.Error()+"; its subject was fetched without it")
		}
		return nil
	}
	if err != nil {
		return err
	}
	var omitted []digest.Digest
	omit := w.platforms.Omitted(parsed.Manifests)
	for _, child := range parsed.Manifests {
		if omit[child.Digest] {
			omitted = append(omitted, child.Digest)
			continue
		}
		if err := w.manifest(ctx, child.Digest, depth+1, referrers); err != nil {
			return err
		}
	}
	for _, blob := range parsed.Blobs() {
		if err := w.foreignLayer(ctx, blob); err != nil {
			return err
		}
	}
	w.addBlobs(parsed.Blobs(), optional)
	w.entries = append(w.entries, replication.PlanEntry{Manifest: &replication.PlanManifest{
		Ref: key, MediaType: m.MediaType, Payload: m.Payload, OmittedChildren: omitted,
	}})
	return w.referrers(ctx, d, depth, referrers)
}

// read reads and parses a manifest. If that fails for an optional manifest, skip says
// whether to fetch the image without it.
func (w *walk) read(
	ctx context.Context, d digest.Digest, optional bool,
) (m *remote.Manifest, parsed *oci.Manifest, skip bool, err error) {
	from := w.registry
	if optional {
		from = w.optional
	}
	request := func() (err error) {
		if m, err = from.Manifest(ctx, w.repository, string(d)); err == nil {
			parsed, err = oci.ParseManifest(m.MediaType, m.Payload)
		}
		return err
	}
	if optional {
		skip, err = w.askOptional(ctx, optionalManifests, string(d), request)
	} else if err = request(); err == nil {
		w.setReference(string(d))
	}
	return m, parsed, skip, err
}

// foreignLayer adds a blob that may be absent, if the source has it. The source must have
// all other blobs.
func (w *walk) foreignLayer(ctx context.Context, blob oci.Descriptor) error {
	if !oci.MayBeAbsent(blob) {
		return nil
	}
	has := false
	skip, err := w.askOptional(ctx, foreignLayers, string(blob.Digest), func() (err error) {
		has, err = w.source.optional.HasBlob(ctx, w.repository, blob.Digest)
		return err
	})
	switch {
	case err != nil && !skip:
		return err
	case err != nil: // treat it as absent
	case has:
		w.entries = append(w.entries, replication.PlanEntry{Blob: &replication.PlanBlob{
			Ref: replication.Ref{Repository: w.to, Digest: blob.Digest}, Size: blob.Size,
		}})
	}
	return nil
}

// referrers adds the referrers of d.
func (w *walk) referrers(ctx context.Context, d digest.Digest, depth, referrers int) error {
	if referrers == maxReferrers {
		return nil
	}
	found, err := w.source.referrers(ctx, d)
	if err != nil {
		return err
	}
	for _, r := range found.Digests {
		if err := w.manifest(ctx, r, depth, referrers+1); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) missing(m replication.PlanMissing) {
	w.entries = append(w.entries, replication.PlanEntry{Missing: &m})
}

// absent reports whether err says that the source does not have the manifest.
func absent(err error) bool {
	return errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown)
}
