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

// Limits on what is followed at a source that nobody here controls.
const (
	maxDepth     = 8      // indexes within indexes
	maxReferrers = 4      // referrers of referrers
	maxManifests = 10_000 // that belong to one wanted manifest
	planners     = 8      // manifests that are asked for at a time
)

// A source is one repository of another registry. It plans by walking
// manifests with the distribution API, so the registry needs no support for
// Ferry. Content for any repository here is looked for in that one.
type source struct {
	registry   *remote.Registry
	optional   *remote.Registry // the same, for requests that an image can do without
	repository string
	platforms  subscription.Platforms
	close      func() // closes its connections
	warnings   warnings
	unlisted   atomic.Bool // it does not list referrers

	mu    sync.Mutex
	known map[digest.Digest]remote.Referrers // by subject
	count int                                // of them
	extra map[digest.Digest]bool             // manifests that belong to others, which can do without them
	later map[string]time.Time               // optional things for which it wants to be asked later, since when
	odd   int                                // answers of no use, in a row, to the question for referrers
	vain  time.Time                          // since when no wanted manifest came; zero if one did
}

// maxOdd is how many answers of no use, in a row, make it known that a source
// does not list referrers.
const maxOdd = 8

// maxAllReferrers bounds the referrers that are remembered of a repository.
const maxAllReferrers = 200_000

var _ replication.Source = (*source)(nil)

// access is what it takes to read from a registry.
type access struct {
	Username, Password string // "" is as Docker's configuration says
	CA                 string // PEM
}

// source returns the repository at l. Without a user name, Docker's
// configuration and its credential helpers are asked. The caller must close it.
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
		known: map[digest.Digest]remote.Referrers{}, extra: map[digest.Digest]bool{}, later: map[string]time.Time{},
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
		return nil, errors.New("the certificate authority is no certificate in PEM")
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return transport, nil
}

// host is the name that people know the source's registry by.
func (s *source) host() string {
	if host := s.registry.Host(); host != dockerHub {
		return host
	}
	return "docker.io"
}

// digest returns the digest of reference at the source; "" if it has no such
// manifest.
func (s *source) digest(ctx context.Context, reference string) (digest.Digest, error) {
	registry := s.registry
	_, attached := subscription.Subject(reference)
	if attached {
		registry = s.optional
	}
	d, err := registry.Resolve(ctx, s.repository, reference)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at %s: %w", reference, err)
	}
	if attached {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.extra[d] = true
	}
	return d, nil
}

// isExtra reports whether d is a referrer, or was attached to another manifest.
func (s *source) isExtra(d digest.Digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.extra[d]
}

// referrers returns the manifests whose subject is d. The registry is asked
// once: a plan and a listing get the same answer.
func (s *source) referrers(ctx context.Context, d digest.Digest) (remote.Referrers, error) {
	s.mu.Lock()
	known, ok := s.known[d]
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
	delete(s.later, what)
	if s.count += len(found.Digests); s.count > maxAllReferrers {
		s.unlisted.Store(true)
		found = remote.Referrers{Problem: fmt.Errorf("the source lists more than %d referrers", maxAllReferrers)}
	}
	s.known[d] = found
	for _, r := range found.Digests {
		s.extra[r] = true
	}
	switch {
	case found.Listed:
		s.odd = 0
	case found.Problem == nil: // the source says that it has no such end-point
		s.unlisted.Store(true)
	default:
		s.warnings.add(ReferrersUnavailable, found.Problem.Error()+
			"; signatures and other referrers may be missing here, and none was removed")
		if s.odd++; s.odd >= maxOdd {
			s.unlisted.Store(true)
		}
	}
	return found, nil
}

// canDoWithout reports whether an image comes without something optional, because
// the source answered the request for it with err. If the source asks for a pause,
// the image waits, for up to [planPatience] in all.
func (s *source) canDoWithout(what string, err error) bool {
	pause := retry.After(err)
	if held := (*backoffError)(nil); errors.As(err, &held) {
		if !held.optional {
			return false // the image cannot come either
		}
	} else {
		switch retry.Status(err) {
		case 0:
			return errors.As(err, new(*outbound.RefusedError)) // else it did not answer
		case http.StatusRequestTimeout, http.StatusTooManyRequests:
		default:
			if pause == 0 {
				return true
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	since, ok := s.later[what]
	if !ok {
		since = time.Now()
		s.later[what] = since
	}
	return time.Since(since)+pause >= planPatience
}

// forgetReferrers lets the registry be asked for referrers anew.
func (s *source) forgetReferrers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.known)
	s.count = 0
}

// answered returns what the registry answered when it was asked for the
// referrers of d.
func (s *source) answered(d digest.Digest) remote.Referrers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[d]
}

// planPatience is for how long a source that answers otherwise may give none of
// the wanted manifests before these are missing. Others, and what must be
// removed, would wait else.
const planPatience = time.Minute

// Plan implements [replication.Source]. Wanted manifests are read side by
// side, and each comes whole: what is below it, itself, its referrers. One that
// the source does not give is missing alone. If the source gives none, it is
// asked again for [planPatience].
func (s *source) Plan(ctx context.Context, want, have []replication.Ref, fn func(replication.PlanEntry) error) error {
	p := &planner{source: s, have: map[replication.Ref]bool{}, done: map[replication.Ref]bool{}, fn: fn}
	for _, w := range have {
		p.have[w] = true
	}
	if err := each(ctx, want, p.plan); err != nil {
		return err
	}
	return p.fail(ctx)
}

// each calls do for every one of all, several at a time, until one fails.
func each[T any](ctx context.Context, all []T, do func(context.Context, T) error) error {
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
	have map[replication.Ref]bool // manifests that are here, with all that is below them

	mu       sync.Mutex
	done     map[replication.Ref]bool // manifests that need no second entry
	fn       func(replication.PlanEntry) error
	complete int                       // wanted manifests that came
	failed   []replication.PlanMissing // those that did not, for a reason that may pass
	failure  error                     // the last reason
}

// plan emits the entries for one wanted manifest.
func (p *planner) plan(ctx context.Context, want replication.Ref) error {
	w := &walk{planner: p, to: want.Repository, seen: map[digest.Digest]bool{}}
	err := w.manifest(ctx, want.Digest, 0, 0)
	if err != nil && !concernsOne(err) {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, replication.PlanMissing{Ref: want, Reason: err.Error(), Temporary: true})
		p.failure = err
		if p.complete == 0 && len(p.failed) >= planners && p.mayCome() { // it is the source, more likely
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

// fail emits which wanted manifests are missing. It returns why nothing came at
// all while that may change: the source is asked again then.
func (p *planner) fail(ctx context.Context) error {
	if p.complete > 0 {
		p.source.mu.Lock()
		p.vain = time.Time{}
		p.source.mu.Unlock()
	} else if p.failure != nil {
		if p.mayCome() {
			return p.failure
		}
		if _, err := p.registry.HasRepository(ctx, p.repository); err != nil { // it is an outage
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

// mayCome reports whether the source, which gave no wanted manifest just now, is
// asked for the same ones again.
func (s *source) mayCome() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.vain.IsZero() {
		s.vain = time.Now()
	}
	return time.Since(s.vain) < planPatience
}

// isDone reports whether the manifest has an entry.
func (p *planner) isDone(key replication.Ref) bool {
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
	if w.seen[d] || w.isDone(key) {
		return nil
	}
	w.seen[d] = true
	if w.have[key] {
		return w.referrers(ctx, d, depth, referrers)
	}
	if depth > maxDepth || len(w.seen) > maxManifests {
		w.missing(replication.PlanMissing{Ref: key, Reason: "too many manifests belong to one"})
		return nil
	}
	optional, registry := referrers > 0 || w.isExtra(d), w.registry
	if optional {
		registry = w.optional
	}
	m, err := registry.Manifest(ctx, w.repository, string(d))
	var parsed *oci.Manifest
	if err == nil {
		parsed, err = oci.ParseManifest(m.MediaType, m.Payload)
	}
	if err != nil && (concernsOne(err) && retry.Permanent(err) || optional && w.canDoWithout(string(d), err)) {
		w.missing(replication.PlanMissing{
			Ref: key, Reason: err.Error(), Temporary: !retry.Permanent(err),
			Unsupported: errors.Is(err, oci.ErrTooLarge) || errors.Is(err, oci.ErrManifestInvalid),
		})
		if optional {
			w.warnings.add(ReferrersUnavailable, err.Error()+"; the image that it refers to came without it")
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

// optionalBlob adds a blob that may be absent, if the source has it. What else a
// manifest refers to the source must have.
func (w *walk) optionalBlob(ctx context.Context, blob oci.Descriptor) error {
	if !oci.MayBeAbsent(blob) {
		return nil
	}
	has, err := w.source.optional.HasBlob(ctx, w.repository, blob.Digest)
	switch {
	case err != nil && !w.canDoWithout(string(blob.Digest), err):
		return err
	case err != nil: // it does not say
	case has:
		w.entries = append(w.entries, replication.PlanEntry{Blob: &replication.PlanBlob{
			Ref: replication.Ref{Repository: w.to, Digest: blob.Digest}, Size: blob.Size,
		}})
	}
	return nil
}

// referrers adds the manifests whose subject is d.
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

// absent reports whether the source does not have what was asked for.
func absent(err error) bool {
	return errors.Is(err, oci.ErrManifestUnknown) || errors.Is(err, oci.ErrNameUnknown)
}
