package mirror

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/replication"
)

// referrers finds the manifests that have one which is kept here for their
// subject, and theirs: a signature is mostly pushed after what it signs, and
// moves no tag. It reports whether there are others than before.
func (r *run) referrers(ctx context.Context, l *listing) (changed bool, _ error) {
	all := map[digest.Digest]bool{}
	level := slices.Collect(maps.Keys(l.digests()))
	for range maxReferrers {
		subjects, err := r.kept(ctx, level)
		if err != nil {
			return false, err
		}
		found, err := r.referrersOf(ctx, l.source, subjects)
		if err != nil {
			return false, err
		}
		level = nil
		for _, d := range found {
			if !all[d] {
				all[d] = true
				level = append(level, d)
			}
		}
	}
	changed = !maps.Equal(all, l.referrers)
	l.referrers = all
	return changed, nil
}

// kept returns those of the manifests that are here, and what is below them.
func (r *run) kept(ctx context.Context, roots []digest.Digest) (all []digest.Digest, _ error) {
	seen := map[digest.Digest]bool{}
	for queue := roots; len(queue) > 0; queue = queue[1:] {
		d := queue[0]
		if seen[d] {
			continue
		}
		seen[d] = true
		has, err := r.Storage.HasManifest(ctx, r.spec.Repository, d)
		if err != nil {
			return nil, err
		}
		if !has {
			continue
		}
		all = append(all, d)
		held, err := r.Storage.Held(ctx, r.spec.Repository, d)
		if err != nil {
			return nil, err
		}
		queue = append(queue, held...)
	}
	return all, nil
}

// referrersOf returns what refers to the subjects: as the source says or,
// where it does not list referrers, what came before and is here. There the
// tags that stand in for the answer come along as all such tags do.
func (r *run) referrersOf(ctx context.Context, src *source, subjects []digest.Digest) (all []digest.Digest, _ error) {
	answers := make([][]digest.Digest, len(subjects))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(planners)
	for i, d := range subjects {
		if gctx.Err() != nil || src.unlisted.Load() {
			break
		}
		ask := func() (err error) {
			answers[i], err = src.referrers(gctx, d)
			return err
		}
		if i > 0 {
			g.Go(ask)
		} else if err := ask(); err != nil { // alone: the source may list none
			return nil, err
		}
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for i, d := range subjects {
		if src.unlisted.Load() {
			known, err := r.knownReferrers(ctx, d)
			if err != nil {
				return nil, err
			}
			answers[i] = known
		}
		all = append(all, answers[i]...)
	}
	return all, nil
}

// knownReferrers returns the referrers of d that are here because the rule
// wanted them.
func (r *run) knownReferrers(ctx context.Context, d digest.Digest) (known []digest.Digest, _ error) {
	here, err := r.Storage.Referrers(ctx, r.spec.Repository, d, "")
	if err != nil || len(here) == 0 {
		return nil, err
	}
	err = r.DB.View(ctx, func(tx *metadb.Tx) error {
		for _, m := range here {
			item, err := tx.SyncItem(SourceName(r.rule.Name), r.spec.Repository, string(m.Digest))
			if err == nil && item.Digest != "" {
				known = append(known, m.Digest)
			}
			if err != nil && !errors.Is(err, metadb.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	return known, err
}

// listing is everything that was found, as the engine records it.
func (l *listing) listing(part string) replication.Listing {
	all := replication.Listing{Repository: l.to}
	for _, item := range l.found {
		item.Part = part
		all.Items = append(all.Items, item)
	}
	for d := range l.referrers {
		all.Items = append(all.Items, replication.ListedItem{Digest: d, Part: part})
	}
	return all
}

// referrers returns the manifests whose subject is d. The source is asked
// once: a plan for d and the look at what is here tell the same.
func (s *source) referrers(ctx context.Context, d digest.Digest) ([]digest.Digest, error) {
	s.mu.Lock()
	known, ok := s.answers[d]
	s.mu.Unlock()
	if ok {
		return known, nil
	}
	listed, err := s.registry.Referrers(ctx, s.repository, d)
	if err != nil {
		return nil, err
	}
	for _, m := range listed {
		known = append(known, m.Digest)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[d] = known
	return known, nil
}

// hear notes an answer that shows that the source does not list referrers:
// its client asks for a tag then, and does not tell.
func (s *source) hear(resp *http.Response) {
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusBadRequest:
		if strings.Contains(resp.Request.URL.Path, "/referrers/") {
			s.unlisted.Store(true)
		}
	}
}

// A heard transport lets somebody hear every answer.
type heard struct {
	http.RoundTripper
	hear func(*http.Response)
}

// RoundTrip implements [http.RoundTripper].
func (t heard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(req)
	if err == nil {
		t.hear(resp)
	}
	return resp, err
}
