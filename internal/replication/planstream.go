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

// How many small blobs, and how many bytes of them, are stored together.
const (
	maxSmallBlobs     = 128
	maxSmallBlobBytes = 1 << 20
)

// addEntry checks an entry of the stream and adds it to the plan. It stores small blobs
// whenever enough of them were received. The error is a [download.LocalError],
// [download.ErrGarbled] or errPlanFull.
func (r *run) addEntry(ctx context.Context, p *plan, entry PlanEntry) error {
	switch {
	case entry.Complete != nil:
		p.markComplete(*entry.Complete)
	case entry.Missing != nil:
		m := entry.Missing
		if p.missing[m.Ref] == nil {
			p.missing[m.Ref] = missingError(m)
			p.countMemory(len(m.Reason))
		}
	case entry.Blob != nil:
		if err := r.addBlob(ctx, p, entry.Blob); err != nil {
			return err
		}
	case entry.Manifest != nil:
		if err := p.addManifest(entry.Manifest); err != nil {
			return err
		}
	}
	return p.checkMemory()
}

func missingError(m *PlanMissing) error {
	err := errors.New(m.Reason)
	if m.Temporary {
		return err
	}
	return unavailableError{err, m.Unsupported}
}

func (r *run) addBlob(ctx context.Context, p *plan, b *PlanBlob) error {
	if _, err := oci.ParseDigest(string(b.Digest)); err != nil || b.Size < 0 || !p.repositories[b.Repository] {
		return fmt.Errorf("plan: %w: blob %s of %d bytes in %s", download.ErrGarbled, b.Digest, b.Size, b.Repository)
	}
	if p.available[b.Ref] {
		return nil
	}
	if b.Data == nil && b.Size > 0 {
		p.available[b.Ref] = true
		p.countMemory(0)
		if _, known := p.blobs[b.Digest]; !known {
			p.blobs[b.Digest] = *b
		}
		return nil
	}
	r.download.CountReceived(int64(len(b.Data)))
	if b.Digest.Algorithm().FromBytes(b.Data) != b.Digest {
		return fmt.Errorf("plan: %w: the content of blob %s", download.ErrGarbled, b.Digest)
	}
	p.available[b.Ref] = true
	p.countMemory(0)
	p.smallBlobs = append(p.smallBlobs, storage.SmallBlob{Repository: b.Repository, Digest: b.Digest, Data: b.Data})
	if p.smallBytes += len(b.Data); len(p.smallBlobs) < maxSmallBlobs && p.smallBytes < maxSmallBlobBytes {
		return nil
	}
	return r.storeSmallBlobs(ctx, p)
}

// storeSmallBlobs stores the received small blobs, even if the sync was stopped. It skips
// blobs that are stored already; their image links them to its repository. Blobs that do
// not fit on the disk, or whose files fail, are left to the downloader.
func (r *run) storeSmallBlobs(ctx context.Context, p *plan) error {
	ctx = context.WithoutCancel(ctx)
	blobs := p.smallBlobs
	p.smallBlobs, p.smallBytes = nil, 0
	absent := blobs[:0]
	for _, b := range blobs {
		has, err := r.storage.HasBlob(ctx, b.Digest)
		switch {
		case err != nil && !r.storage.IsFileFailure(ctx, err):
			return download.Local(err)
		case err == nil && !has:
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
	for _, b := range absent { // there may be space for some, and the files of the others may be good
		err := r.storage.PutBlobs(ctx, b)
		if err == nil {
			continue
		}
		full := errors.Is(err, oci.ErrNoSpace)
		if !full && !r.storage.IsFileFailure(ctx, err) {
			return download.Local(err)
		}
		r.log.Debug("small blob is not stored, and is downloaded later", "digest", b.Digest, "err", err)
		if full {
			break
		}
	}
	return nil
}

func (p *plan) addManifest(entry *PlanManifest) error {
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
		p.missing[m.Ref] = unavailableError{err, true}
		p.countMemory(0)
		return nil
	}
	p.manifests[m.Ref] = m
	p.countMemory(len(m.Payload) + m.parsed.Memory + entryOverhead*len(m.omitted))
	if m.parsed.Subject != nil {
		subject := Ref{Repository: m.Repository, Digest: m.parsed.Subject.Digest}
		p.referrers[subject] = append(p.referrers[subject], m)
	}
	return nil
}

// countMemory counts a new entry that takes bytes beside its overhead.
func (p *plan) countMemory(bytes int) {
	p.entries++
	p.memory += entryOverhead + bytes
}

// checkMemory returns errPlanFull if the plan has reached a memory limit.
func (p *plan) checkMemory() error {
	if p.memory < planSoftLimit {
		return nil
	}
	if p.memory >= planHardLimit || len(p.completed) > 0 {
		return errPlanFull
	}
	return nil
}
