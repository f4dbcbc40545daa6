package gateway

import (
	"context"
	"errors"
	"strings"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/subscription"
	"ferry/internal/storage"
)

// A companion is a tag that belongs to a manifest, such as its signature.
type companion struct {
	storage.Tag
	subject digest.Digest
}

// A referrer is a manifest that belongs to another.
type referrer struct{ digest, subject digest.Digest }

// belongings returns the tags that belong to manifests, or to anything that
// these lead to, and the manifests that refer to any of that; whether they go
// to the caller or not. For each manifest that it looks at it tells walked how
// many it found, whose error ends it.
func (x *selection) belongings(ctx context.Context, of []digest.Digest, walked func(found int) error) (tags []companion, referrers []referrer, err error) {
	signed, err := x.signed(ctx)
	if err != nil {
		return nil, nil, err
	}
	referred, err := x.storage.HasReferrers(ctx, x.repository)
	if err != nil || !signed && !referred {
		return nil, nil, err
	}
	err = x.walk(of, func(d digest.Digest) ([]digest.Digest, error) {
		below, err := x.storage.Held(ctx, x.repository, d)
		if err != nil {
			return nil, err
		}
		held := len(below)
		if referred {
			found, err := x.storage.Referrers(ctx, x.repository, d, "")
			if err != nil {
				return nil, err
			}
			for _, r := range found {
				referrers = append(referrers, referrer{r.Digest, d})
				below = append(below, r.Digest)
			}
		}
		if signed {
			found, err := x.tagsFor(ctx, d)
			if err != nil {
				return nil, err
			}
			for _, t := range found {
				tags = append(tags, companion{t, d})
				below = append(below, t.Digest)
			}
		}
		return below, walked(len(below) - held)
	})
	return tags, referrers, err
}

// signed reports whether the repository may have tags that belong to others:
// most have none, and need no search for them. Where all tags go to the caller,
// none does.
func (x *selection) signed(ctx context.Context) (bool, error) {
	if x.scope.All() {
		return false, nil
	}
	for _, prefix := range subscription.CompanionPrefixes() {
		tags, err := x.tagsBehind(ctx, prefix, 1)
		if err != nil || len(tags) > 0 && strings.HasPrefix(tags[0].Name, prefix) {
			return err == nil, err
		}
	}
	return false, nil
}

// tagsFor returns the tags that belong to a manifest.
func (x *selection) tagsFor(ctx context.Context, d digest.Digest) (all []storage.Tag, err error) {
	const few = 8 // no signer makes more
	stem := subscription.CompanionStem(d)
	for after := stem[:len(stem)-1]; ; { // the stem may be one itself
		tags, err := x.tagsBehind(ctx, after, few)
		if err != nil {
			return nil, err
		}
		for _, t := range tags {
			if after = t.Name; after > stem && !strings.HasPrefix(after, stem) {
				return all, nil
			}
			if subject, ok := subscription.Subject(t.Name); ok && subject == d {
				all = append(all, t)
			}
		}
		if len(tags) < few {
			return all, nil
		}
	}
}

// tagsBehind lists tags; a repository that is not there has none.
func (x *selection) tagsBehind(ctx context.Context, after string, limit int) ([]storage.Tag, error) {
	tags, err := x.storage.Tags(ctx, x.repository, after, limit)
	if errors.Is(err, oci.ErrNameUnknown) {
		return nil, nil
	}
	return tags, err
}
