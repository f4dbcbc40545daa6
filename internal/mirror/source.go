package mirror

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/gateway"
	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/remote"
	"ferry/internal/replication"
	"ferry/internal/retry"
	"ferry/internal/subscription"
	"ferry/internal/telemetry"
)

// Limits on references that are followed at a source, which may be hostile.
const (
	maxDepth     = 8      // nesting of indexes
	maxReferrers = 4      // levels of referrers of referrers
	maxManifests = 10_000 // that belong to one wanted manifest
	planners     = 8      // concurrent requests for manifests
)

// A source is one repository of another registry. It makes plans by walking manifests
// with the distribution API, so the registry needs no support for Ferry. It provides the
// content for any repository here.
type source struct {
	registry    *remote.Registry
	optional    *remote.Registry // the same registry, for requests that an image can do without
	repository  string
	platforms   subscription.Platforms
	close       func() // closes its connections
	warnings    warnings
	noReferrers atomic.Bool // the source does not list referrers

	mu                sync.Mutex
	answers           map[digest.Digest]remote.Referrers // by subject
	referrerCount     int                                // of all answers
	optionalManifests map[digest.Digest]bool             // manifests that belong to others, which can do without them
	postponed         map[string]time.Time               // by optional request: since when the source postpones it
	unusable          int                                // answers of no use, in a row, to the question for referrers
	emptySince        time.Time                          // since when no wanted manifest came; zero if one did
}

// maxUnusable is how many unusable answers in a row mean that a source does not list
// referrers.
const maxUnusable = 8

// maxAllReferrers is how many referrers of a repository are kept in memory.
const maxAllReferrers = 200_000

var _ replication.Source = (*source)(nil)

// access has the settings for access to a registry.
type access struct {
	Username, Password string // "" is the login in Docker's configuration
	CA                 string // PEM
}

// source returns the repository at l. Without a user name, it uses the login in Docker's
// configuration or its credential helpers. The caller must close it.
func (s *Service) source(l Location, a access) (*source, error) {
	transport, err := newTransport(a.CA)
	if err != nil {
		return nil, err
	}
	if s.Dial != nil {
		transport.DialContext = s.Dial
	}
	src := &source{
		repository: l.Repository, close: transport.CloseIdleConnections,
		answers: map[digest.Digest]remote.Referrers{}, optionalManifests: map[digest.Digest]bool{},
		postponed: map[string]time.Time{},
	}
	src.registry, err = remote.New(l.Address, remote.Options{
		Username: a.Username, Password: a.Password, DockerLogins: a.Username == "",
		Transport: backoffTransport{transport, s.hosts, false}, UserAgent: "ferry/" + telemetry.Version(),
	})
	if err != nil {
		return nil, err
	}
	src.optional = src.registry.Over(backoffTransport{transport, s.hosts, true})
	return src, nil
}

func newTransport(ca string) (*http.Transport, error) {
	transport := gateway.NewTransport()
	if ca == "" {
		return transport, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("read this machine's certificate authorities: %w", err)
	}
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, errors.New("the certificate authority is not a PEM certificate")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// host is the name of the source's registry that people know.
func (s *source) host() string {
	if host := s.registry.Host(); host != dockerHub {
		return host
	}
	return "docker.io"
}

// digest resolves a reference at the source; "" means that there is no such manifest.
func (s *source) digest(ctx context.Context, reference string) (digest.Digest, error) {
	registry := s.registry
	_, attached := subscription.AttachedTo(reference)
	if attached {
		registry = s.optional
	}
	d, err := registry.Resolve(ctx, s.repository, reference)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", reference, err)
	}
	if attached {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.optionalManifests[d] = true
	}
	return d, nil
}

// isOptional reports whether d is a referrer or has an attached tag, so that another
// manifest must not fail with it.
func (s *source) isOptional(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.optionalManifests[d]
}

// referrers returns the referrers of d. It asks the registry once, so a plan and a
// listing see the same answer.
func (s *source) referrers(ctx context.Context, d digest.Digest) (remote.Referrers, error) {
	s.mu.Lock()
	known, ok := s.answers[d]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	what := "referrers of " + string(d)
	found, err := s.optional.Referrers(ctx, s.repository, d)
	if err != nil {
		if !s.canDoWithout(what, err) {
			return remote.Referrers{}, err
		}
		found = remote.Referrers{Problem: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.postponed, what)
	if s.referrerCount += len(found.Digests); s.referrerCount > maxAllReferrers {
		s.noReferrers.Store(true)
		found = remote.Referrers{Problem: fmt.Errorf("the source lists more than %d referrers", maxAllReferrers)}
	}
	s.answers[d] = found
	for _, r := range found.Digests {
		s.optionalManifests[r] = true
	}
	switch {
	case found.Listed:
		s.unusable = 0
	case found.Problem == nil: // the source has no such end-point
		s.noReferrers.Store(true)
	default:
		s.warnings.add(ReferrersUnavailable, found.Problem.Error()+
			"; signatures and other referrers may be missing here, and none was removed")
		if s.unusable++; s.unusable >= maxUnusable {
			s.noReferrers.Store(true)
		}
	}
	return found, nil
}

// canDoWithout reports whether an image is fetched without an optional part, because the
// request for that failed with err. It is false if the source did not answer. If the
// source asks for pauses, it is false until these exceed [planTimeout] in total.
func (s *source) canDoWithout(what string, err error) bool {
	pause := retry.After(err)
	if held := (*backoffError)(nil); errors.As(err, &held) {
		if !held.optional {
			return false // the image must wait for the host, too
		}
	} else {
		switch retry.Status(err) {
		case 0:
			return errors.As(err, new(*outbound.RefusedError)) // otherwise it did not answer
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			if pause == 0 {
				return true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.postponed[what]
	if !ok {
		since = time.Now()
		s.postponed[what] = since
	}
	return time.Since(since)+pause >= planTimeout
}

// forgetReferrers discards all answers about referrers, so that the registry is asked
// again.
func (s *source) forgetReferrers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.answers)
	s.referrerCount = 0
}

// answer returns the registry's answer about the referrers of d; the zero value if it was
// not asked.
func (s *source) answer(d digest.Digest) remote.Referrers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.answers[d]
}

// planTimeout is how long a source that answers may fail to provide any wanted manifest.
// After that the manifests count as missing, because other manifests and removals wait
// for the plan.
const planTimeout = time.Minute

// Plan implements [replication.Source]. It reads several wanted manifests at a time. The
// entries of each stay together: first everything below the manifest, then the manifest,
// then its referrers. A manifest that cannot be read is missing alone. If none can be
// read, Plan returns an error for up to [planTimeout], so that the engine retries.
func (s *source) Plan(ctx context.Context, want, have []replication.Ref, fn func(replication.PlanEntry) error) error {
	p := &planner{source: s, have: map[replication.Ref]bool{}, done: map[replication.Ref]bool{}, fn: fn}
	for _, w := range have {
		p.have[w] = true
	}
	if err := forEach(ctx, want, p.plan); err != nil {
		return err
	}
	return p.finish(ctx)
}

// forEach calls do for all elements, several at a time, until a call fails.
func forEach[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(planners)
	for _, one := range all {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return do(gctx, one) })
	}
	return cmp.Or(g.Wait(), context.Cause(ctx))
}

// Blob implements [replication.Source].
func (s *source) Blob(
	ctx context.Context, _ string, d digest.Digest, offset, length int64,
) (io.ReadCloser, int64, error) {
	return s.registry.Blob(ctx, s.repository, d, offset, length)
}

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
	optional, registry := referrers > 0 || w.isOptional(d), w.registry
	if optional {
		registry = w.optional
	}
	m, err := registry.Manifest(ctx, w.repository, string(d))
	var parsed *oci.Manifest
	if err == nil {
		parsed, err = oci.ParseManifest(m.MediaType, m.Payload)
	}
	if err != nil && (isItemError(err) && retry.Permanent(err) || optional && w.canDoWithout(string(d), err)) {
		w.missing(replication.PlanMissing{
			Ref: key, Reason: err.Error(), Temporary: !retry.Permanent(err),
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
		if err := w.optionalBlob(ctx, blob); err != nil {
			return err
		}
	}
	w.entries = append(w.entries, replication.PlanEntry{Manifest: &replication.PlanManifest{
		Ref: key, MediaType: m.MediaType, Payload: m.Payload, OmittedChildren: omitted,
	}})
	return w.referrers(ctx, d, depth, referrers)
}

// optionalBlob adds a blob that may be absent, if the source has it. The source must have
// all other blobs.
func (w *walk) optionalBlob(ctx context.Context, blob oci.Descriptor) error {
	if !oci.MayBeAbsent(blob) {
		return nil
	}
	has, err := w.source.optional.HasBlob(ctx, w.repository, blob.Digest)
	switch {
	case err != nil && !w.canDoWithout(string(blob.Digest), err):
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
