package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// How many small blobs are stored together, and how many bytes of them.
const (
	enoughSmall      = 128
	enoughSmallBytes = 1 << 20
)

// note keeps an entry of the stream. Blobs that came whole are stored some at a time.
// The error is a [download.LocalError], [download.ErrGarbled] or errEnough.
func (r *run) note(ctx context.Context, p *plan, entry PlanEntry) error {
	switch {
	case entry.Complete != nil:
		p.markComplete(*entry.Complete)
	case entry.Missing != nil:
		m := entry.Missing
		if p.missing[m.Ref] == nil {
			p.missing[m.Ref] = missingError(m)
			p.hold(len(m.Reason))
		}
	case entry.Blob != nil:
		if err := r.noteBlob(ctx, p, entry.Blob); err != nil {
			return err
		}
	case entry.Manifest != nil:
		if err := p.noteManifest(entry.Manifest); err != nil {
			return err
		}
	}
	return p.room()
}

// missingError says why a source does not send something.
func missingError(m *PlanMissing) error {
	err := errors.New(m.Reason)
	if m.Temporary {
		return err
	}
	return absentError{err, m.Unsupported}
}

func (r *run) noteBlob(ctx context.Context, p *plan, b *PlanBlob) error {
	if _, err := oci.ParseDigest(string(b.Digest)); err != nil || b.Size < 0 || !p.repositories[b.Repository] {
		return fmt.Errorf("plan: %w: blob %s of %d bytes in %s", download.ErrGarbled, b.Digest, b.Size, b.Repository)
	}
	if p.offered[b.Ref] {
		return nil
	}
	if b.Data == nil && b.Size > 0 {
		p.offered[b.Ref] = true
		p.hold(0)
		if _, known := p.blobs[b.Digest]; !known {
			p.blobs[b.Digest] = *b
		}
		return nil
	}
	r.download.CountReceived(int64(len(b.Data)))
	if b.Digest.Algorithm().FromBytes(b.Data) != b.Digest {
		return fmt.Errorf("plan: %w: the content of blob %s", download.ErrGarbled, b.Digest)
	}
	p.offered[b.Ref] = true
	p.hold(0)
	p.small = append(p.small, storage.SmallBlob{Repository: b.Repository, Digest: b.Digest, Data: b.Data})
	if p.smallBytes += len(b.Data); len(p.small) < enoughSmall && p.smallBytes < enoughSmallBytes {
		return nil
	}
	return r.storeSmall(ctx, p)
}

// storeSmall stores the small blobs that came, apart from those that are here:
// the image that needs them links them to its repository. Also a sync that was
// stopped keeps what came.
func (r *run) storeSmall(ctx context.Context, p *plan) error {
	ctx = context.WithoutCancel(ctx)
	blobs := p.small
	p.small, p.smallBytes = nil, 0
	absent := blobs[:0]
	for _, b := range blobs {
		has, err := r.storage.HasBlob(ctx, b.Digest)
		if err != nil {
			return download.Local(err)
		}
		if !has {
			absent = append(absent, b)
		}
	}
	if len(absent) == 0 {
		return nil
	}
	err := r.storage.PutBlobs(ctx, absent...)
	if err == nil {
		return nil
	}
	for _, b := range absent { // the disk may have room for some
		if err = r.storage.PutBlobs(ctx, b); err != nil {
			break
		}
	}
	if errors.Is(err, oci.ErrNoSpace) {
		r.log.Debug("small blobs are not stored, and fetched as others are", "err", err)
		return nil
	}
	return download.Local(err)
}

func (p *plan) noteManifest(entry *PlanManifest) error {
	m := &plannedManifest{PlanManifest: *entry, omitted: map[digest.Digest]bool{}}
	for _, d := range entry.OmittedChildren {
		m.omitted[d] = true
	}
	if _, err := oci.ParseDigest(string(m.Digest)); err != nil || !p.repositories[m.Repository] {
		return fmt.Errorf("plan: %w: manifest %s in %s", download.ErrGarbled, m.Digest, m.Repository)
	}
	if m.Digest.Algorithm().FromBytes(m.Payload) != m.Digest {
		return fmt.Errorf("plan: %w: the content of manifest %s", download.ErrGarbled, m.Digest)
	}
	if p.manifests[m.Ref] != nil {
		return nil
	}
	var err error
	if m.parsed, err = oci.ParseManifest(m.MediaType, m.Payload); err != nil {
		p.missing[m.Ref] = absentError{err, true}
		p.hold(0)
		return nil
	}
	p.manifests[m.Ref] = m
	// What it refers to is held twice: as bytes, and parsed.
	p.hold(len(m.Payload) + m.parsed.Memory + entryCost*len(m.omitted))
	if m.parsed.Subject != nil {
		subject := Ref{Repository: m.Repository, Digest: m.parsed.Subject.Digest}
		p.referrers[subject] = append(p.referrers[subject], m)
	}
	return nil
}

// hold counts a new entry, which takes so many bytes beside its own.
func (p *plan) hold(bytes int) {
	p.entries++
	p.held += entryCost + bytes
}

// room returns errEnough when nothing more may be held.
func (p *plan) room() error {
	if p.held < planEnough {
		return nil
	}
	if p.held >= planMax || len(p.complete) > 0 {
		return errEnough
	}
	return nil
}
