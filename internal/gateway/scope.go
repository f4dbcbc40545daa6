package gateway

import (
	"context"
	"errors"
	"fmt"

	"ferry/internal/oci"
	"ferry/internal/subscription"
	"ferry/internal/storage"
)

// scopeOf returns what of the repositories that it may read goes to the
// caller: which tags, and what of indexes.
func (s *server) scopeOf(ctx context.Context, c caller) (sc subscription.Scope, p subscription.Platforms, err error) {
	d, err := s.control.Desired(ctx, c.name)
	if err != nil {
		return sc, p, err
	}
	if sc, err = subscription.Parse(d.Self.TagFilters, d.Self.KeepLast); err == nil {
		p, err = subscription.ParsePlatforms(d.Self.Platforms)
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
func Newest(ctx context.Context, from TagLister, repository string, sc subscription.Scope, limit int) (all []storage.Tag, err error) {
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
			if _, companion := subscription.Subject(t.Name); companion || !sc.Matches(t.Name) {
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
