package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage/blob"
)

// Content that is not what its digest says, or that is lost, is out of service: it counts
// as absent, so that it is fetched or pushed again, and the same transaction makes
// pending what needs it. A damaged file stays where it is until it is replaced, or is removed
// at once where a source brings the content again.

// A Damage is content that is out of service, and why.
type Damage = metadb.Damage

// A signal wakes everyone who waits for the next event. The zero value is ready.
type signal struct {
	mu   sync.Mutex
	next chan struct{} // closed by the next event; nil while nobody waits
}

// wait returns a channel that the next event closes.
func (s *signal) wait() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		s.next = make(chan struct{})
	}
	return s.next
}

// notify wakes everyone who waits.
func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next != nil {
		close(s.next)
		s.next = nil
	}
}

// DamageFound returns a channel that is closed when content is next taken out of service by this
// process. Call it before you look at what is damaged, or you miss damage that is found in between.
func (s *Storage) DamageFound() <-chan struct{} { return s.damageFound.wait() }

// checkFile looks at the size of a blob's file. One that is lost, or of another
// size, is taken out of service: the error is [blob.ErrNotExist].
func (s *Storage) checkFile(ctx context.Context, row metadb.Blob) error {
	d := digest.Digest(row.Digest)
	has, err := s.hasFile(ctx, d, row.Size)
	if err != nil || has {
		return err
	}
	reason, err := s.takeOut(context.WithoutCancel(ctx), d, func(ctx context.Context, size int64) (string, error) {
		info, err := s.blobs.Stat(ctx, d)
		switch {
		case errors.Is(err, blob.ErrNotExist):
			return fileLost, nil
		case err != nil || info.Size == size:
			return "", err
		}
		return wrongLength(info.Size, size), nil
	})
	if err != nil && !errors.Is(err, metadb.ErrNotFound) { // it is not here, whether that could be noted or not
		s.log.Error("damage is not noted", "digest", d, "err", err)
	}
	if err != nil || reason != "" {
		return blob.ErrNotExist
	}
	return nil
}

// checkFiles looks at the files of blobs that a manifest refers to. Those whose
// files are lost are out of service afterwards.
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

// takeOut takes a blob out of service if look, which is called while no commit
// can replace the file, returns a reason, and returns that, too. The error is
// [metadb.ErrNotFound] if the blob is not in service.
func (s *Storage) takeOut(
	ctx context.Context, d digest.Digest, look func(ctx context.Context, size int64) (reason string, err error),
) (reason string, err error) {
	defer s.digests.lock(string(d))()
	row, err := s.blob(ctx, d)
	if err != nil {
		return "", err
	}
	if reason, err = look(ctx, row.Size); err != nil || reason == "" {
		return "", err
	}
	damage := Damage{Digest: string(d), Size: row.Size, Reason: reason, FoundAt: s.now()}
	s.anyDamage.Store(damageSome)
	var pending int64
	err = s.write(ctx, func(tx *metadb.Tx) (err error) {
		pending, err = tx.DamageBlob(damage)
		return err
	})
	if err != nil {
		return "", err
	}
	if pending > 0 && reason != fileLost { // it comes again, and may need the room
		if err := s.blobs.Delete(ctx, d); err != nil {
			s.log.Warn("damaged file is not removed", "digest", d, "err", err)
		}
	}
	s.damageFound.notify()
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

// reviveLost puts a blob back into service that is out of it because its file was lost, if that
// is in its place again, because a disk can be away for a while: no byte is fetched twice.
func (s *Storage) reviveLost(ctx context.Context, d digest.Digest) (bool, error) {
	if s.anyDamage.Load() == damageNone { // most of what is asked for is just not here
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
	some, err := metadb.Read(ctx, s.db, (*metadb.Tx).AnyDamage)
	if err == nil && !some {
		s.anyDamage.CompareAndSwap(damageUnknown, damageNone)
	} else if err == nil {
		s.anyDamage.Store(damageSome)
	}
	return err
}

// IsWhole reports whether repository has the manifest d and every blob that it
// refers to, as far as their files' sizes tell. Children of an index are others. A blob with
// URLs to come from need not be here, unless it was, and is damaged.
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
			err = s.checkAbsent(ctx, repository, d, digest.Digest(b.Digest))
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

// checkAbsent returns [blob.ErrNotExist] unless the manifest may be served without the blob d.
func (s *Storage) checkAbsent(ctx context.Context, repository string, manifest, d digest.Digest) error {
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
	damage, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (Damage, error) { return tx.DamageOf("", string(d)) })
	if errors.Is(err, metadb.ErrNotFound) {
		return nil, nil
	}
	return &damage, err
}

// unknownBlob says that a repository has no such blob, or why it is out of service.
func unknownBlob(tx *metadb.Tx, repository string, d digest.Digest) error {
	damage, err := tx.LinkedDamage(repository, string(d))
	if err != nil {
		return known(err, oci.ErrBlobUnknown)
	}
	return oci.ErrBlobUnknown.With("%s", damageText("blob", damage))
}

// damagedManifest says why a manifest is out of service.
func damagedManifest(tx *metadb.Tx, repository string, d digest.Digest) error {
	damage, err := tx.DamageOf(repository, string(d))
	if err != nil {
		return known(err, oci.ErrManifestUnknown)
	}
	return oci.ErrManifestUnknown.With("%s", damageText("manifest", damage))
}

func damageText(kind string, d Damage) string {
	return fmt.Sprintf("%s is damaged at this registry since %s: %s; it is served again once it was pushed or synced again",
		kind, d.FoundAt.UTC().Format(time.RFC3339), d.Reason)
}
