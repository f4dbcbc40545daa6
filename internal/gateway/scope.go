package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/scope"
	"ferry/internal/storage"
)

// scopeOf returns what of the repositories that it may read goes to the
// caller: which tags, and what of indexes.
func (s *server) scopeOf(ctx context.Context, c caller) (sc scope.Scope, p scope.Platforms, err error) {
	d, err := s.control.Desired(ctx, c.name)
	if err != nil {
		return sc, p, err
	}
	if sc, err = scope.Parse(d.Self.TagFilters, d.Self.KeepLast); err == nil {
		p, err = scope.ParsePlatforms(d.Self.Platforms)
	}
	if err != nil {
		return sc, p, fmt.Errorf("read scope of %s: %w", c.name, err)
	}
	return sc, p, nil
}

// A TagLister lists tags in an order; [storage.Storage] is one.
type TagLister interface {
	SortedTags(ctx context.Context, repository string, o storage.TagOrder, after string, limit int) ([]storage.Tag, error)
}

// newestPage is how many tags are read at once in search of the newest.
const newestPage = 500

// Newest returns the tags of a repository that sc matches, up to limit, the
// newest first, without those that belong to others as signatures do. A
// repository that is not there has none.
func Newest(ctx context.Context, from TagLister, repository string, sc scope.Scope, limit int) (all []storage.Tag, err error) {
	after := ""
	for {
		tags, err := from.SortedTags(ctx, repository, storage.TagOrder{ByTime: true, Newest: true}, after, newestPage)
		switch {
		case errors.Is(err, oci.ErrNameUnknown):
			return nil, nil
		case errors.Is(err, oci.ErrManifestUnknown): // the last page's last tag went meanwhile
			all, after = nil, ""
			continue
		case err != nil:
			return nil, err
		}
		for _, t := range tags {
			after = t.Name
			if _, companion := scope.Subject(t.Name); companion || !sc.Matches(t.Name) {
				continue
			}
			if all = append(all, t); len(all) == limit {
				return all, nil
			}
		}
		if len(tags) < newestPage {
			return all, nil
		}
	}
}

// A selection is what of one repository goes to a caller.
type selection struct {
	*server
	repository string
	scope      scope.Scope
	platforms  scope.Platforms
	newest     []storage.Tag   // those in scope, and as many behind them as were asked for; nil where all are
	kept       map[string]bool // of these, those in scope
}

// selects returns what of a repository is in scope; where that depends on how
// new tags are, with up to behind tags that are the next to be.
func (s *server) selects(ctx context.Context, sc scope.Scope, p scope.Platforms, repository string, behind int) (x *selection, err error) {
	x = &selection{server: s, repository: repository, scope: sc, platforms: p}
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
	d, companion := scope.Subject(tag)
	if !companion || x.scope.All() {
		return x.plain(tag), nil
	}
	names, err := x.storage.ManifestTags(ctx, x.repository, d)
	for _, name := range names {
		if x.plain(name) {
			return true, nil
		}
	}
	return false, err
}

func (x *selection) plain(tag string) bool {
	if x.kept != nil {
		return x.kept[tag]
	}
	return x.scope.Matches(tag)
}

// refers reports whether a manifest that no tag leads to goes to the caller
// nevertheless, for it refers to one that does.
func (x *selection) refers(ctx context.Context, d digest.Digest) (bool, error) {
	m, err := x.storage.DescribeManifest(ctx, x.repository, d)
	if errors.Is(err, oci.ErrManifestUnknown) || err == nil && m.Subject == "" {
		return false, nil // the former went meanwhile
	}
	if err != nil {
		return false, err
	}
	return x.leads(ctx, m.Subject, maxIndexDepth)
}

// leads reports whether a tag that goes to the caller leads to a manifest, over
// indexes that keep it and over subjects, up to depth of them.
func (x *selection) leads(ctx context.Context, d digest.Digest, depth int) (bool, error) {
	names, err := x.storage.ManifestTags(ctx, x.repository, d)
	if err != nil || slices.ContainsFunc(names, x.plain) {
		return err == nil, err
	}
	if depth == 0 {
		return false, nil
	}
	indexes, err := x.storage.Indexes(ctx, x.repository, d)
	if err != nil {
		return false, err
	}
	for _, index := range indexes {
		keeps, err := x.keeps(ctx, index, d)
		if err == nil && keeps {
			keeps, err = x.leads(ctx, index, depth-1)
		}
		if err != nil || keeps {
			return keeps, err
		}
	}
	m, err := x.storage.DescribeManifest(ctx, x.repository, d)
	if errors.Is(err, oci.ErrManifestUnknown) || err == nil && m.Subject == "" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return x.leads(ctx, m.Subject, depth-1)
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
