package gateway

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/subscription"
	"ferry/internal/storage"
)

// A selection is what of one repository goes to a caller.
type selection struct {
	*server
	repository string
	scope      subscription.Scope
	platforms  subscription.Platforms
	newest     []storage.Tag   // those in scope, and as many behind them as were asked for; nil where all are
	kept       map[string]bool // of these, those in scope

	led map[digest.Digest]bool // answers of leads
}

// selects returns what of a repository is in scope; where that depends on how
// new tags are, with up to behind tags that are the next to be.
func (s *server) selects(ctx context.Context, sc subscription.Scope, p subscription.Platforms, repository string, behind int) (x *selection, err error) {
	x = &selection{server: s, repository: repository, scope: sc, platforms: p, led: map[digest.Digest]bool{}}
	n := sc.KeepLast()
	if n == 0 {
		return x, nil
	}
	if x.newest, err = Newest(ctx, s.storage, repository, sc, n+behind); err != nil {
		return nil, err
	}
	x.kept = map[string]bool{}
	for _, t := range x.newest[:min(len(x.newest), n)] {
		x.kept[t.Name] = true
	}
	return x, nil
}

// has reports whether a tag goes to the caller: a signature where what it
// signs does, under whatever tag.
func (x *selection) has(ctx context.Context, tag string) (bool, error) {
	if d, companion := x.subject(tag); companion {
		return x.leads(ctx, d)
	}
	return x.plain(tag), nil
}

// subject returns what a tag belongs to that goes along with something else,
// as signatures do where not all tags go to the caller.
func (x *selection) subject(tag string) (digest.Digest, bool) {
	if x.scope.All() {
		return "", false
	}
	return subscription.Subject(tag)
}

func (x *selection) plain(tag string) bool {
	if x.kept != nil {
		return x.kept[tag]
	}
	return x.scope.Matches(tag)
}

// itself reports whether a manifest goes to the caller for itself; one that is
// not there does not.
func (x *selection) itself(ctx context.Context, d digest.Digest) (bool, error) {
	m, err := x.storage.DescribeManifest(ctx, x.repository, d)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return x.unnamed(ctx, d, m.Subject)
}

// unnamed is [selection.itself] for a manifest with a subject, which may be "":
// it goes, whatever tags and indexes lead to, where that does, or nothing else
// ever led to it. The former is mostly known already.
func (x *selection) unnamed(ctx context.Context, d, subject digest.Digest) (in bool, err error) {
	if subject != "" {
		in, err = x.leads(ctx, subject)
	}
	if err != nil || in {
		return in, err
	}
	return x.alone(ctx, d)
}

// alone reports whether a manifest goes to the caller that was only ever pushed
// by its digest. Where not everything does, what goes is said by tags.
func (x *selection) alone(ctx context.Context, d digest.Digest) (bool, error) {
	if !x.scope.All() || !x.platforms.All() {
		return false, nil
	}
	return x.storage.IsOnlyByDigest(ctx, x.repository, d)
}

// leads reports whether anything that goes to the caller leads to a manifest:
// tags and what was pushed by its digest, over indexes that keep it, over
// subjects, and over what signatures sign. What it answered once it answers
// again, whatever changes meanwhile.
func (x *selection) leads(ctx context.Context, d digest.Digest) (in bool, err error) {
	if in, known := x.led[d]; known {
		return in, nil
	}
	defer func() {
		if err == nil {
			x.led[d] = in
		}
	}()
	err = x.walk([]digest.Digest{d}, func(d digest.Digest) (above []digest.Digest, err error) {
		if in {
			return nil, nil
		}
		in, above, err = x.above(ctx, d)
		return above, err
	})
	return in, err
}

// walk calls step with manifests, and then with those that it returned, with
// each once, as deep as anything leads to anything.
func (x *selection) walk(level []digest.Digest, step func(digest.Digest) ([]digest.Digest, error)) error {
	seen := map[digest.Digest]bool{}
	for range maxIndexDepth + 1 {
		var next []digest.Digest
		for _, d := range level {
			if seen[d] {
				continue
			}
			seen[d] = true
			more, err := step(d)
			if err != nil {
				return err
			}
			next = append(next, more...)
		}
		level = next
	}
	return nil
}

// above reports whether a manifest goes to the caller whatever leads to it, as
// where a tag that is in scope by itself names it, and else returns what does.
func (x *selection) above(ctx context.Context, d digest.Digest) (in bool, all []digest.Digest, err error) {
	names, err := x.storage.ManifestTags(ctx, x.repository, d)
	if err != nil {
		return false, nil, err
	}
	for _, name := range names {
		if signed, companion := x.subject(name); companion {
			all = append(all, signed)
		} else if x.plain(name) {
			return true, nil, nil
		}
	}
	if in, err = x.alone(ctx, d); in || err != nil {
		return in, nil, err
	}
	indexes, err := x.storage.Indexes(ctx, x.repository, d)
	if err != nil {
		return false, nil, err
	}
	for _, index := range indexes {
		keeps, err := x.keeps(ctx, index, d)
		if err != nil {
			return false, nil, err
		}
		if keeps {
			all = append(all, index)
		}
	}
	m, err := x.storage.DescribeManifest(ctx, x.repository, d)
	switch {
	case errors.Is(err, oci.ErrManifestUnknown):
		err = nil
	case err == nil && m.Subject != "":
		all = append(all, m.Subject)
	}
	return false, all, err
}

// keeps reports whether the caller's platforms leave a child in its index.
func (x *selection) keeps(ctx context.Context, index, child digest.Digest) (bool, error) {
	m, err := x.storage.DescribeManifest(ctx, x.repository, index)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
	if err != nil {
		return false, err
	}
	return !x.platforms.LeftOut(parsed.Manifests)[child], nil
}
