package gateway

import (
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
	"ferry/internal/subscription"
)

// LeadingItems returns the items of one repository that f selects and that lead to the manifest d:
// the item itself has the digest, or it is an index from which f sends d.
func LeadingItems(
	v *storage.View, repository string, f subscription.Filter, d digest.Digest,
) ([]Item, error) {
	s, err := selectFrom(v, repository, f)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(s.items(), func(i Item) bool {
		return !s.leadsTo(i.Digest, d, map[digest.Digest]bool{})
	}), nil
}

// leadsTo reports whether the manifest at is d, or is an index from which d is sent.
func (s *selector) leadsTo(at, d digest.Digest, seen map[digest.Digest]bool) bool {
	if at == d {
		return true
	}
	seen[at] = true
	return slices.ContainsFunc(s.kept[at], func(child digest.Digest) bool {
		return !seen[child] && s.leadsTo(child, d, seen)
	})
}
