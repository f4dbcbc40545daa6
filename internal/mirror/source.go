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
	"ferry/internal/remote"
	"ferry/internal/replication"
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
	close       func() // closes the connections
	warnings    warnings
	noReferrers atomic.Bool // the source does not list referrers

	mu                sync.Mutex
	answers           map[digest.Digest]remote.Referrers // by subject
	referrerCount     int                                // of all answers
	optionalManifests map[digest.Digest]bool             // true for referrers and manifests of attached tags
	postponed         map[string]time.Time               // optional requests that the source postpones, since when
	unanswered        map[optionalKind]unansweredKind    // optional requests that it does not answer
	requiredBlobs     map[digest.Digest]bool             // of manifests that are not optional
	optionalBlobs     map[digest.Digest]int64            // the sizes of those that only optional manifests have
	blobFailures      map[digest.Digest]time.Time        // since when optional blobs fail
	lastReference     string                             // the last tag or digest that the source had
	unusable          int                                // unusable answers about referrers in a row
	emptySince        time.Time                          // since when no wanted manifest could be read
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
	if s.Traffic != nil {
		transport.DialContext = s.Traffic.Dial(transport.DialContext)
	}
	src := &source{
		repository: l.Repository, close: transport.CloseIdleConnections,
		answers: map[digest.Digest]remote.Referrers{}, optionalManifests: map[digest.Digest]bool{},
		postponed: map[string]time.Time{}, unanswered: map[optionalKind]unansweredKind{},
		requiredBlobs: map[digest.Digest]bool{}, optionalBlobs: map[digest.Digest]int64{},
		blobFailures: map[digest.Digest]time.Time{},
	}
	src.registry, err = remote.New(l.Address, remote.Options{
		Username: a.Username, Password: a.Password, DockerLogins: a.Username == "",
		Transport: backoffTransport{transport, s.hosts, false}, UserAgent: "ferry/" + telemetry.Version(),
	})
	if err != nil {
		return nil, err
	}
	src.optional = src.registry.Over(backoffTransport{transport, s.hosts, true}, optionalTimeout)
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

// host returns the usual name of the source's registry, such as docker.io.
func (s *source) host() string {
	if host := s.registry.Host(); host != dockerHub {
		return host
	}
	return "docker.io"
}

// digest resolves a reference at the source; "" means that there is no such manifest.
func (s *source) digest(ctx context.Context, reference string) (digest.Digest, error) {
	d, err := s.registry.Resolve(ctx, s.repository, reference)
	if absent(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", reference, err)
	}
	s.setReference(reference)
	return d, nil
}

// attachedDigest is [source.digest] for an attached tag. If it fails, skip says whether to
// do without the tag.
func (s *source) attachedDigest(ctx context.Context, tag string) (d digest.Digest, skip bool, err error) {
	skip, err = s.askOptional(ctx, attachedTags, tag, func() (err error) {
		if d, err = s.optional.Resolve(ctx, s.repository, tag); absent(err) {
			d, err = "", nil
		}
		return err
	})
	if err != nil {
		return "", skip, fmt.Errorf("resolve %s: %w", tag, err)
	}
	return d, false, nil
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
	part := "referrers of " + string(d)
	var found remote.Referrers
	skip, err := s.askOptional(ctx, referrersLists, part, func() (err error) {
		found, err = s.optional.Referrers(ctx, s.repository, d)
		return err
	})
	if err != nil {
		if !skip {
			return remote.Referrers{}, err
		}
		found = remote.Referrers{Problem: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.postponed, part)
	if s.referrerCount += len(found.Digests); s.referrerCount > maxAllReferrers {
		s.noReferrers.Store(true)
		found = remote.Referrers{Problem: fmt.Errorf("the source lists more than %d referrers", maxAllReferrers)}
	}
	s.answers[d] = found
	for _, r := range found.Digests {
		if _, known := s.optionalManifests[r]; !known {
			s.optionalManifests[r] = true
		}
	}
	switch {
	case found.Listed:
		s.unusable = 0
	case found.Problem == nil: // the source has no such endpoint
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

// forgetReferrers discards all answers about referrers, and which optional requests the
// registry does not answer, so that it is asked again.
func (s *source) forgetReferrers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.answers)
	clear(s.unanswered)
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
	if !s.isOptionalBlob(d) {
		return s.registry.Blob(ctx, s.repository, d, offset, length)
	}
	body, start, err := s.optional.Blob(ctx, s.repository, d, offset, length)
	if err != nil {
		return nil, 0, s.optionalBlobError(ctx, d, err)
	}
	return s.optionalBody(ctx, body, d, start, offset, length), start, nil
}
