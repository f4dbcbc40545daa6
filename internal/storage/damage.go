package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// Content that is lost or does not match its digest is taken out of service. It counts as
// absent, so that it is fetched or pushed again, and the same transaction makes the items
// pending that need it. A damaged file stays until it is replaced. It is deleted at once if a
// source will bring the content again.

// A Damage is content that is out of service, and why.
type Damage = metadb.Damage

// DamageFound returns a channel that is closed when this process next takes content out of
// service. A caller that also looks for damage must call it before it looks, so that it misses none.
func (s *Storage) DamageFound() <-chan struct{} { return s.damageFound.Wait() }

// checkFile checks the size of a blob's file. If the file is lost or has another size, the blob
// is taken out of service, and the error is [blob.ErrNotExist].
func (s *Storage) checkFile(ctx context.Context, row metadb.Blob) error {
	d := digest.Digest(row.Digest)
	has, err := s.hasFile(ctx, d, row.Size)
	if err != nil || has {
		return err
	}
	inspect := func(ctx context.Context, size int64) (string, error) {
		info, err := s.blobs.Stat(ctx, d)
		switch {
		case errors.Is(err, blob.ErrNotExist):
			return fileLost, nil
		case err != nil || info.Size == size:
			return "", err
		}
		return wrongLength(info.Size, size), nil
	}
	reason, err := s.takeOutOfService(context.WithoutCancel(ctx), d, inspect)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) { // the blob is absent in any case
		s.log.Error("damage is not recorded", "digest", d, "err", err)
	}
	if err != nil || reason != "" {
		return blob.ErrNotExist
	}
	return nil
}

// checkFiles checks the files of blobs that a manifest refers to, and takes the blobs out of
// service whose files are lost.
func (s *Storage) checkFiles(ctx context.Context, blobs []oci.Descriptor) error {
	for _, b := range blobs {
		info, err := s.blobs.Stat(ctx, b.Digest)
		if err == nil && info.Size == b.Size {
			continue
		}
		if err != nil && !errors.Is(err, blob.ErrNotExist) {
			return err
		}
		if _, err := s.HasBlob(ctx, b.Digest); err != nil {
			return err
		}
	}
	return nil
}

// takeOutOfService takes a blob out of service if inspect returns a reason, and returns the
// reason. No commit can replace the file while inspect runs. The error is [metadb.ErrNotFound]
// if the blob is not in service.
func (s *Storage) takeOutOfService(
	ctx context.Context, d digest.Digest, inspect func(ctx context.Context, size int64) (reason string, err error),
) (reason string, err error) {
	held, err := s.digests.acquire(ctx, string(d))
	if err != nil {
		return "", err
	}
	defer held.release()
	row, err := s.blob(ctx, d)
	if err != nil {
		return "", err
	}
	if reason, err = inspect(ctx, row.Size); err != nil || reason == "" {
		return "", err
	}
	damage := Damage{Digest: string(d), Size: row.Size, Reason: reason, FoundAt: s.now()}
	s.anyDamage.Store(damageSome)
	var deletes bool
	begun := time.Now()
	err = s.write(ctx, held.confirmed(func(tx *metadb.Tx) error {
		pending, err := tx.DamageBlob(damage)
		// If the blob is fetched again, it may need the space.
		if deletes = pending > 0 && reason != fileLost; err != nil || !deletes {
			return err
		}
		return s.beginDeletion(tx, d)
	}))
	if err != nil {
		return "", err
	}
	if deletes {
		if err := s.deleteFile(ctx, begun, d); err != nil {
			s.log.Warn("damaged file is not removed", "digest", d, "err", err)
		}
	}
	s.damageFound.Notify()
	s.log.Error("blob is damaged, and out of service until it comes again", "digest", d, "bytes", row.Size, "err",
		reason)
	return reason, nil
}

// Whether anything is damaged, as far as this process knows.
const (
	damageUnknown int32 = iota
	damageNone
	damageSome
)

// reviveLost puts a blob whose file was lost back into service if the file is in its place
// again. A disk can be away for a while, and its blobs need not be fetched again.
func (s *Storage) reviveLost(ctx context.Context, d digest.Digest) (bool, error) {
	if s.anyDamage.Load() == damageNone { // the usual case: the blob was never stored
		return false, nil
	}
	damage, err := s.damageOf(ctx, d)
	if damage == nil || err != nil {
		return false, errors.Join(err, s.learnDamage(ctx))
	}
	if damage.Reason == contentChanged || damage.Reason == contentUnreadable {
		return false, nil
	}
	if has, err := s.hasFile(ctx, d, damage.Size); err != nil || !has {
		return false, err
	}
	return s.ReviveBlob(ctx, d, Unpaced)
}

// learnDamage finds out, once, whether anything is damaged.
func (s *Storage) learnDamage(ctx context.Context) error {
	if s.anyDamage.Load() != damageUnknown {
		return nil
	}
	some, err := metadb.Lookup(ctx, s.db, (*metadb.Tx).AnyDamage)
	if err == nil && !some {
		s.anyDamage.CompareAndSwap(damageUnknown, damageNone)
	} else if err == nil {
		s.anyDamage.Store(damageSome)
	}
	return err
}

// IsWhole reports whether repository has the manifest d and every blob that it refers to, by
// the sizes of their files. It does not check the children of an index. A blob with URLs may be
// absent, unless it was here and is damaged.
func (s *Storage) IsWhole(ctx context.Context, repository string, d digest.Digest) (bool, error) {
	var blobs []metadb.ChildBlob
	has, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (has bool, err error) {
		if has, err = tx.HasManifest(repository, string(d)); err == nil && has {
			blobs, err = tx.ChildBlobs(repository, string(d))
		}
		return has, err
	})
	if err != nil || !has {
		return false, err
	}
	for _, b := range blobs {
		var err error
		if b.Size < 0 {
			err = s.checkMayBeAbsent(ctx, repository, d, digest.Digest(b.Digest))
		} else {
			err = s.checkFile(ctx, metadb.Blob{Digest: b.Digest, Size: b.Size})
		}
		if errors.Is(err, blob.ErrNotExist) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// checkMayBeAbsent returns [blob.ErrNotExist] unless the manifest may be served without the blob d.
func (s *Storage) checkMayBeAbsent(ctx context.Context, repository string, manifest, d digest.Digest) error {
	m, err := s.DescribeManifest(ctx, repository, manifest)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return blob.ErrNotExist
	}
	if err != nil {
		return err
	}
	parsed, err := s.ParseManifest(ctx, &m)
	if errors.Is(err, oci.ErrManifestUnknown) {
		return blob.ErrNotExist
	}
	if err != nil {
		return err
	}
	optional := slices.ContainsFunc(parsed.Blobs(),
		func(b oci.Descriptor) bool { return b.Digest == d && oci.MayBeAbsent(b) })
	damage, err := s.damageOf(ctx, d)
	if err == nil && (!optional || damage != nil) {
		err = blob.ErrNotExist
	}
	return err
}

// damageOf returns the damage of a blob; nil is none.
func (s *Storage) damageOf(ctx context.Context, d digest.Digest) (*Damage, error) {
	damage, err := metadb.Lookup(ctx, s.db, func(tx *metadb.Tx) (Damage, error) { return tx.DamageOf("", string(d)) })
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	return &damage, err
}

// unknownBlob returns the error for a blob that a repository does not have, or that is out of
// service.
func unknownBlob(tx *metadb.Tx, repository string, d digest.Digest) error {
	damage, err := tx.LinkedDamage(repository, string(d))
	if err != nil {
		return mapNotFound(err, oci.ErrBlobUnknown)
	}
	return oci.ErrBlobUnknown.With("%s", damageText("blob", damage))
}

// damagedManifest returns the error for a manifest that is out of service.
func damagedManifest(tx *metadb.Tx, repository string, d digest.Digest) error {
	damage, err := tx.DamageOf(repository, string(d))
	if err != nil {
		return mapNotFound(err, oci.ErrManifestUnknown)
	}
	return oci.ErrManifestUnknown.With("%s", damageText("manifest", damage))
}

func damageText(kind string, d Damage) string {
	return fmt.Sprintf("%s is damaged at this registry since %s: %s; "+
		"it is served again once it was pushed or synced again",
		kind, d.FoundAt.UTC().Format(time.RFC3339), d.Reason)
}

// putBlob writes the row of a blob. If the blob was damaged, it adds the repositories that need
// the blob to healed, and takes a sequence number for each: their readers may have failed to
// fetch an image, and try again.
func (s *Storage) putBlob(tx *metadb.Tx, d digest.Digest, size int64, healed map[string]bool) error {
	damage, err := tx.DamageOf("", string(d))
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	if err == nil {
		needing, err := tx.ManifestsNeeding(damage)
		if err != nil {
			return err
		}
		for _, m := range needing {
			if healed[m.Repository] {
				continue
			}
			healed[m.Repository] = true
			if err := (&change{Storage: s, tx: tx, repository: m.Repository}).healed(); err != nil {
				return err
			}
		}
	}
	return tx.PutBlob(metadb.Blob{Digest: string(d), Size: size, CreatedAt: s.now(), StoredAt: s.Uptime()})
}
