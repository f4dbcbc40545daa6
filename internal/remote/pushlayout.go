package remote

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"

	"ferry/internal/oci"
)

// A PushProgress counts the bytes of a push. It may be read while the push runs.
type PushProgress struct {
	Total   atomic.Int64 // bytes of the blobs of the image and of its referrers
	Sent    atomic.Int64
	Present atomic.Int64 // bytes of blobs that the registry already had
}

// PushWithReferrers is [Registry.Push], and pushes the referrers of the image after it: those
// of candidates whose subject is the image, one of its platforms, or another referrer. It
// returns the referrers. If the registry does not list referrers, they are listed in the tag
// that [ReferrersTag] names.
func (r *Registry) PushWithReferrers(
	ctx context.Context, repository, tag string, root oci.Descriptor, candidates []oci.Descriptor, from Content,
	progress *PushProgress,
) ([]oci.Descriptor, error) {
	s := &pushSet{from: from, members: map[digest.Digest]bool{}, blobs: map[digest.Digest]int64{}}
	if err := s.add(root, 0); err != nil {
		return nil, err
	}
	referrers, err := s.addReferrers(candidates)
	if err != nil {
		return nil, err
	}
	progress.Total.Store(s.bytes())
	job := pushJob{repository, from, func(n int) { progress.Sent.Add(int64(n)) },
		func(n int64) { progress.Present.Add(n) }}
	if err := r.push(ctx, job, root, tag, 0); err != nil {
		return nil, err
	}
	bySubject := map[digest.Digest][]oci.Descriptor{}
	for _, f := range referrers {
		if err := r.push(ctx, job, f.descriptor, string(f.descriptor.Digest), 0); err != nil {
			return nil, err
		}
		bySubject[f.subject] = append(bySubject[f.subject], f.descriptor)
	}
	var all []oci.Descriptor
	for subject, own := range bySubject {
		if err := r.listInTag(ctx, repository, subject, own); err != nil {
			return nil, err
		}
		all = append(all, own...)
	}
	slices.SortFunc(all, func(a, b oci.Descriptor) int { return cmp.Compare(a.Digest, b.Digest) })
	return all, nil
}

// A pushSet is the manifests and blobs that one push sends.
type pushSet struct {
	from    Content
	members map[digest.Digest]bool  // manifests
	blobs   map[digest.Digest]int64 // sizes
}

// A pushedReferrer is a referrer whose subject is in the same push.
type pushedReferrer struct {
	descriptor oci.Descriptor // with artifact type and annotations, as in a list of referrers
	subject    digest.Digest
}

func (s *pushSet) add(d oci.Descriptor, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("read manifest %s: indexes are nested more than %d levels deep", d.Digest, maxDepth)
	}
	_, m, err := ReadManifest(s.from, d)
	if err != nil {
		return err
	}
	s.members[d.Digest] = true
	for _, b := range m.Blobs() {
		s.blobs[b.Digest] = b.Size
	}
	for _, child := range m.Manifests {
		if err := s.add(child, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// addReferrers adds those of candidates whose subject is in s, until no more are found. A
// referrer stands after its subject in the result.
func (s *pushSet) addReferrers(candidates []oci.Descriptor) (found []pushedReferrer, err error) {
	var left []pushedReferrer
	for _, d := range candidates {
		payload, m, err := ReadManifest(s.from, d)
		if err != nil {
			return nil, err
		}
		if m.Subject != nil {
			// as in a list of referrers (end-12a)
			left = append(left, pushedReferrer{oci.Descriptor{
				MediaType: m.MediaType, Digest: d.Digest, Size: int64(len(payload)), ArtifactType: m.ArtifactType,
				Annotations: m.Annotations,
			}, m.Subject.Digest})
		}
	}
	for again := true; again; {
		again = false
		for _, f := range left {
			if s.members[f.descriptor.Digest] || !s.members[f.subject] {
				continue
			}
			if err := s.add(f.descriptor, 0); err != nil {
				return nil, err
			}
			found, again = append(found, f), true
		}
	}
	return found, nil
}

func (s *pushSet) bytes() (n int64) {
	for _, size := range s.blobs {
		n += size
	}
	return n
}

// listInTag adds referrers to the list in the tag of their subject, unless the registry lists
// referrers itself (section "Pushing Manifests with Subject" of the specification).
func (r *Registry) listInTag(
	ctx context.Context, repository string, subject digest.Digest, referrers []oci.Descriptor,
) error {
	known, err := r.Referrers(ctx, repository, subject)
	if err != nil || known.Listed {
		return err
	}
	index := v1.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: v1.MediaTypeImageIndex}
	if len(known.Digests) > 0 {
		m, err := r.Manifest(ctx, repository, ReferrersTag(subject))
		if err != nil {
			return err
		}
		if err := json.Unmarshal(m.Payload, &index); err != nil {
			return fmt.Errorf("read list of referrers of %s: %w", subject, err)
		}
	}
	for _, d := range referrers {
		if !slices.Contains(known.Digests, d.Digest) {
			index.Manifests = append(index.Manifests, d)
		}
	}
	payload, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return r.PutManifest(ctx, repository, ReferrersTag(subject), v1.MediaTypeImageIndex, payload)
}
