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
	close       func() // closes the connections
	warnings    warnings
	noReferrers atomic.Bool // the source does not list referrers

	mu                sync.Mutex
	answers           map[digest.Digest]remote.Referrers // by subject
	referrerCount     int                                // of all answers
	optionalManifests map[digest.Digest]bool             // referrers, and manifests of attached tags
	postponed         map[string]time.Time               // optional requests that the source postpones, since when
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

// isOptional reports whether d is a referrer, or the manifest of an attached tag: the
// manifest that it belongs to must not fail with it.
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
	part := "referrers of " + string(d)
	found, err := s.optional.Referrers(ctx, s.repository, d)
	if err != nil {
		if !s.canDoWithout(part, err) {
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
		s.optionalManifests[r] = true
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

// canDoWithout reports whether an image is fetched without an optional part, because the
// request for that failed with err. It is false if the source did not answer. If the
// source asks for pauses, it is false until these exceed [planTimeout] in total.
func (s *source) canDoWithout(part string, err error) bool {
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
	since, ok := s.postponed[part]
	if !ok {
		since = time.Now()
		s.postponed[part] = since
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
