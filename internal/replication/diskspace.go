package replication

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/storage"
)

// diskBlock is the unit in which a file takes disk space.
const diskBlock = 4 << 10

// A noSpaceError says that an image does not fit on the disk.
type noSpaceError struct{ needed, free int64 }

// Error begins like every error of a full disk.
func (e noSpaceError) Error() string {
	return fmt.Sprintf("%s: the image needs %s more, and %s are free",
		oci.ErrNoSpace.Message, mebibytes(e.needed), mebibytes(max(e.free, 0)))
}

// Unwrap returns [oci.ErrNoSpace].
func (e noSpaceError) Unwrap() error { return oci.ErrNoSpace }

// mebibytes formats a number of bytes for people, rounded up.
func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64((n*10+1<<20-1)>>20)/10) }

// DiskFull says how many items do not fit on the disk, and how much space they lack; it is
// "" if all fit.
func (r Result) DiskFull() string {
	if r.NoSpace == 0 {
		return ""
	}
	return fmt.Sprintf("%s: items that do not fit: %d; missing space: %s",
		oci.ErrNoSpace.Message, r.NoSpace, mebibytes(r.MissingSpace))
}

// sumMissingSpace fills in how much space all images lack that do not fit.
func (r *run) sumMissingSpace(ctx context.Context) error {
	if r.result.NoSpace == 0 {
		return nil
	}
	room, err := r.storage.DiskSpace(ctx)
	if err != nil {
		return err
	}
	for _, n := range r.spaceShort {
		r.result.MissingSpace += n
	}
	r.result.MissingSpace = max(r.result.MissingSpace-max(room.Free, 0), 0)
	return nil
}

// A spaceReservation decides which images of a plan fit on the disk, before any byte of
// them is fetched. An image that cannot be completed would only take space from others.
type spaceReservation struct {
	*run
	storage.DiskSpace
	plan     *plan
	inFlight map[digest.Digest]bool // blobs for which space is already reserved
	reserved map[digest.Digest]bool // blobs of this plan's images that fit
}

// reserveSpace reserves disk space for the images of a plan, those that need the least
// first, and fails the images that do not fit. An image gets the space of larger images: of
// earlier plans, if their download has not started; and of this plan, if parts of them
// are on disk from an earlier sync and they do not fit either.
func (r *run) reserveSpace(ctx context.Context, p *plan) error {
	room, err := r.storage.DiskSpace(ctx)
	if err != nil {
		return err
	}
	s := &spaceReservation{run: r, DiskSpace: room, plan: p, inFlight: r.blobsInFlight(),
		reserved: map[digest.Digest]bool{}}
	images := slices.DeleteFunc(slices.Clone(p.complete), func(im *image) bool { return im.err != nil })
	if s.fitsAll(images) {
		return nil
	}
	if err := r.storage.ReleaseLog(ctx); err != nil {
		return err
	}
	if s.DiskSpace, err = r.storage.DiskSpace(ctx); err != nil {
		return err
	}
	if s.fitsAll(images) {
		return nil
	}
	slices.SortStableFunc(images, func(x, y *image) int { return cmp.Compare(s.spaceFor(x), s.spaceFor(y)) })
	images = slices.DeleteFunc(images, s.reserve)
	if len(images) > 0 {
		s.evictLarger(images)
		images = slices.DeleteFunc(images, s.reserve)
	}
	for i, im := range images {
		if err := s.discardPartials(ctx, im, images[i+1:]); err != nil {
			return err
		}
		if !s.reserve(im) {
			im.err = noSpaceError{s.spaceFor(im), s.Free}
			maps.Copy(p.spaceShort, s.spaceByBlob(im))
		}
	}
	return nil
}

// blobsInFlight returns the digests of the layers in flight.
func (r *run) blobsInFlight() map[digest.Digest]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[digest.Digest]bool{}
	for d := range r.layers {
		all[d] = true
	}
	return all
}

// spaceByBlob returns the blobs for which an image needs space, and how much.
func (s *spaceReservation) spaceByBlob(im *image) map[digest.Digest]int64 {
	all := map[digest.Digest]int64{}
	for _, part := range im.withReferrers() {
		for _, b := range part.needed {
			if !b.elsewhere && b.missing == nil && !s.inFlight[b.Digest] && !s.reserved[b.Digest] {
				all[b.Digest] = max(b.Size-s.Partial[b.Digest]+diskBlock-1, 0) / diskBlock * diskBlock
			}
		}
	}
	return all
}

// fitsAll reports whether all images fit together. They usually do.
func (s *spaceReservation) fitsAll(images []*image) bool {
	all, total := map[digest.Digest]int64{}, int64(0)
	for _, im := range images {
		maps.Copy(all, s.spaceByBlob(im))
	}
	for _, n := range all {
		total += n
	}
	return total <= s.Free
}

// spaceFor returns how much space an image needs.
func (s *spaceReservation) spaceFor(im *image) (bytes int64) {
	for _, n := range s.spaceByBlob(im) {
		bytes += n
	}
	return bytes
}

// reserve reserves space for an image, and reports whether it fits.
func (s *spaceReservation) reserve(im *image) bool {
	blobs, bytes := s.spaceByBlob(im), s.spaceFor(im)
	if bytes > max(s.Free, 0) {
		return false
	}
	s.Free -= bytes
	for d := range blobs {
		s.reserved[d] = true
	}
	return true
}

// evictLarger takes the space of larger images of earlier plans for images that do not fit,
// if that makes one of these fit. images are sorted by the space that they need.
func (s *spaceReservation) evictLarger(images []*image) {
	larger := s.unstartedImages(images[0].priority)
	for _, im := range images {
		bytes, free, n := s.spaceFor(im), max(s.Free, 0), 0
		for n < len(larger) && free < bytes && larger[n].reserved > bytes {
			free += larger[n].reserved
			n++
		}
		if free < bytes {
			return // the following images need more
		}
		s.plan.evicted = append(s.plan.evicted, larger[:n]...)
		larger = larger[n:]
		s.Free = free
		s.reserve(im)
	}
}

// An evicted image loses its reserved space.
type evicted struct {
	*image
	reserved int64
}

// unstartedImages returns the images of earlier plans whose download has not started and
// that are no more urgent than priority, the largest first.
func (s *spaceReservation) unstartedImages(priority int) (all []evicted) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for im := range s.images {
		if im.err != nil || im.committing || im.committed || im.priority < priority {
			continue
		}
		d, started := evicted{image: im}, false
		for l := range im.allLayers() {
			shared := s.plan.needs(l.Digest) ||
				slices.ContainsFunc(l.images, func(o *image) bool { return o.subjectOrSelf() != im })
			if started = started || s.download.HasStarted(l.Blob); !shared {
				d.reserved += l.Size
			}
		}
		if !started && d.reserved > 0 {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(x, y evicted) int { return cmp.Compare(y.reserved, x.reserved) })
	return all
}

// needs reports whether an image of the plan lacks a blob.
func (p *plan) needs(d digest.Digest) bool {
	return slices.ContainsFunc(p.complete, func(im *image) bool {
		return slices.ContainsFunc(im.withReferrers(), func(part *image) bool {
			return slices.ContainsFunc(part.needed, func(b neededBlob) bool { return b.Digest == d })
		})
	})
}

// failEvicted fails the evicted images of a plan.
func (r *run) failEvicted(p *plan) {
	for _, d := range p.evicted {
		if d.err == nil && !d.committing && !d.committed && r.images[d.image] {
			for l := range d.allLayers() {
				r.spaceShort[l.Digest] = l.Size
			}
			r.failImage(d.image, noSpaceError{d.reserved, 0})
		}
	}
}

// discardPartials discards the partial layers of larger images, which do not fit either, if
// that makes im fit. Otherwise it keeps them, because they came over the link.
func (s *spaceReservation) discardPartials(ctx context.Context, im *image, larger []*image) error {
	own, bytes := s.spaceByBlob(im), s.spaceFor(im)
	var discard []digest.Digest
	free := s.Free
	for _, other := range slices.Backward(larger) {
		for d := range s.spaceByBlob(other) {
			if _, shared := own[d]; !shared && s.Partial[d] > 0 && !slices.Contains(discard, d) {
				discard = append(discard, d)
				free += s.Partial[d]
			}
		}
		if free >= bytes {
			break
		}
	}
	if free < bytes {
		return nil
	}
	for _, d := range discard {
		err := s.storage.DiscardTransfer(ctx, d)
		if errors.Is(err, storage.ErrBusy) {
			continue // another engine fetches it
		}
		if err != nil {
			return err
		}
		s.log.Info("partial layer is discarded, because its image does not fit", "digest", d, "bytes", s.Partial[d])
		s.Free += s.Partial[d]
		delete(s.Partial, d)
	}
	return nil
}
