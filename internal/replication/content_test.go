package replication_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/subscription"
)

// content is everything that a registry serves.
type content struct {
	tags      map[string]digest.Digest // by repository:tag
	manifests map[string]string        // media types and payloads, by repository@digest
}

// readContent returns a storage's content. It fails unless the manifest of every tag is
// whole, and all of its blobs match their digests. It skips and fills checked, the blobs
// that were verified.
func readContent(ctx context.Context, s *storage.Storage, checked map[digest.Digest]bool) (content, error) {
	return readContentWith(ctx, s, checked, allChildren)
}

// readContentWith is [readContent] with the children that an index must have.
func readContentWith(
	ctx context.Context, s *storage.Storage, checked map[digest.Digest]bool, children childrenOf,
) (content, error) {
	c := content{map[string]digest.Digest{}, map[string]string{}}
	repositories, err := s.Repositories(ctx, "", 1000)
	if err != nil {
		return c, err
	}
	for _, r := range repositories {
		tags, err := s.Tags(ctx, r.Name, storage.TagOrder{}, "", 1000)
		if err != nil && oci.AsError(err) == nil {
			return c, err
		}
		for _, tag := range tags {
			c.tags[r.Name+":"+tag.Name] = tag.Digest
			if err := checkWhole(ctx, s, r.Name, tag.Digest, checked, children); err != nil {
				if now, again := s.Tag(ctx, r.Name, tag.Name); again == nil && now.Digest == tag.Digest {
					return c, fmt.Errorf("%s:%s: %w", r.Name, tag.Name, err)
				} // otherwise the tag moved meanwhile
			}
		}
		manifests, err := s.Manifests(ctx, r.Name, storage.ManifestOrder{}, "", 1000)
		if err != nil && oci.AsError(err) == nil {
			return c, err
		}
		for _, m := range manifests {
			full, err := s.Manifest(ctx, r.Name, string(m.Digest))
			var payload []byte
			if err == nil {
				payload, err = storagetest.ReadPayload(ctx, s, full)
			}
			if err == nil {
				c.manifests[r.Name+"@"+string(m.Digest)] = full.MediaType + " " + string(payload)
			}
		}
	}
	return c, nil
}

// childrenOf returns the children that an index must have.
type childrenOf func(
	ctx context.Context, s *storage.Storage, repository string, index digest.Digest, parsed *oci.Manifest,
) ([]digest.Digest, error)

func allChildren(
	_ context.Context, _ *storage.Storage, _ string, _ digest.Digest, parsed *oci.Manifest,
) (all []digest.Digest, err error) {
	for _, child := range parsed.Manifests {
		all = append(all, child.Digest)
	}
	return all, nil
}

// heldChildren returns the children that no platform filter excluded.
func heldChildren(
	ctx context.Context, s *storage.Storage, repository string, index digest.Digest, parsed *oci.Manifest,
) ([]digest.Digest, error) {
	if len(parsed.Manifests) == 0 {
		return nil, nil
	}
	return s.HeldChildren(ctx, repository, index)
}

// checkWhole returns an error if a manifest or something below it is missing or wrong.
func checkWhole(
	ctx context.Context, s *storage.Storage, repository string, d digest.Digest,
	checked map[digest.Digest]bool, children childrenOf,
) error {
	m, err := s.Manifest(ctx, repository, string(d))
	var payload []byte
	if err == nil {
		payload, err = storagetest.ReadPayload(ctx, s, m)
	}
	if err != nil {
		return fmt.Errorf("manifest %s: %w", d, err)
	}
	if got := d.Algorithm().FromBytes(payload); got != d {
		return fmt.Errorf("manifest %s has digest %s", d, got)
	}
	parsed, err := oci.ParseManifest(m.MediaType, payload)
	if err != nil {
		return err
	}
	listed, err := children(ctx, s, repository, d, parsed)
	if err != nil {
		return err
	}
	for _, child := range listed {
		if err := checkWhole(ctx, s, repository, child, checked, children); err != nil {
			if now, again := children(ctx, s, repository, d, parsed); again == nil && slices.Contains(now, child) {
				return err
			} // otherwise the index lost the child meanwhile
		}
	}
	for _, b := range parsed.Blobs() {
		r, info, err := s.OpenBlob(ctx, repository, b.Digest)
		if err != nil {
			return fmt.Errorf("blob %s: %w", b.Digest, err)
		}
		if !checked[b.Digest] {
			checked[b.Digest] = true
			var got digest.Digest
			if got, err = b.Digest.Algorithm().FromReader(r); err == nil && (got != b.Digest || info.Size != b.Size) {
				err = fmt.Errorf("blob %s of %d bytes has digest %s and %d bytes", b.Digest, b.Size, got, info.Size)
			}
		}
		r.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// assertInSync fails the test unless the replica serves exactly the subscribed part of the
// parent's content.
func assertInSync(t testing.TB, p *parent, s *storage.Storage) {
	t.Helper()
	want, got := p.contentForChild(t), p.contentOf(t, s)
	if diff := cmp.Diff(want.tags, got.tags); diff != "" {
		t.Errorf("tags differ (-parent +replica):\n%s", diff)
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want.manifests)), slices.Sorted(maps.Keys(got.manifests))); diff != "" {
		t.Errorf("manifests differ (-parent +replica):\n%s", diff)
	}
	for name, payload := range got.manifests {
		if want.manifests[name] != payload {
			t.Errorf("%s differs", name)
		}
	}
}

// contentForChild returns the part of the parent's content that the child gets.
func (p *parent) contentForChild(t testing.TB) content {
	t.Helper()
	all, err := readContent(t.Context(), p.Storage, map[digest.Digest]bool{})
	if err != nil {
		t.Fatal(err)
	}
	c := content{map[string]digest.Digest{}, all.manifests}
	follow := p.manifestsForChild(t, c.tags)
	maps.DeleteFunc(c.manifests, func(name, _ string) bool { return !follow[name] })
	return c
}

// contentOf returns the content of a replica. If its subscription has platforms, an index is
// whole with the children that it holds.
func (p *parent) contentOf(t testing.TB, s *storage.Storage) content {
	t.Helper()
	children := allChildren
	if len(p.subscription().platforms) > 0 {
		children = heldChildren
	}
	c, err := readContentWith(t.Context(), s, map[digest.Digest]bool{}, children)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// manifestsForChild returns the manifests that the child gets, as repository@digest: those
// that a subscribed tag names and, without filters, those that were pushed untagged; with
// everything below them and all of their referrers. It fills in tags, the subscribed tags.
func (p *parent) manifestsForChild(t testing.TB, tags map[string]digest.Digest) map[string]bool {
	t.Helper()
	platforms, err := subscription.ParsePlatforms(p.subscription().platforms)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	var add func(repository string, d digest.Digest)
	add = func(repository string, d digest.Digest) {
		name := repository + "@" + string(d)
		m, err := p.Manifest(t.Context(), repository, string(d))
		if seen[name] || err != nil {
			return
		}
		seen[name] = true
		parsed, err := p.ParseManifest(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		omitted := platforms.Omitted(parsed.Manifests)
		for _, child := range parsed.Manifests {
			if !omitted[child.Digest] {
				add(repository, child.Digest)
			}
		}
		referrers, err := p.ReferrerDigests(t.Context(), repository, d)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range referrers {
			add(repository, r)
		}
	}
	repositories, err := p.Repositories(t.Context(), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range repositories {
		for _, tag := range p.tags(t, r.Name) {
			tags[r.Name+":"+tag.Name] = tag.Digest
			add(r.Name, tag.Digest)
		}
		if !p.subscription().isUnfiltered() {
			continue
		}
		err := p.View(t.Context(), func(v *storage.View) error {
			all, err := v.Manifests(r.Name)
			for _, m := range all {
				if has, _ := p.HasManifest(t.Context(), r.Name, m.Subject); !m.WasReferenced && !has {
					add(r.Name, m.Digest)
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return seen
}

// randomBytes returns n bytes that depend on the seed.
func randomBytes(seed uint64, n int) []byte {
	b := make([]byte, n)
	newRand(seed).Read(b)
	return b
}
