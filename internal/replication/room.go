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

// diskBlock is what a file takes of a disk in steps of.
const diskBlock = 4 << 10

// A noRoomError says that the disk has no room for an image.
type noRoomError struct{ needs, free int64 }

// Error begins as every error of a full disk does.
func (e noRoomError) Error() string {
	return fmt.Sprintf("%s: the image needs %s more, and %s are free",
		oci.ErrNoSpace.Message, mebibytes(e.needs), mebibytes(max(e.free, 0)))
}

// Unwrap returns [oci.ErrNoSpace].
func (e noRoomError) Unwrap() error { return oci.ErrNoSpace }

// mebibytes is a number of bytes as people read it, rounded up.
func mebibytes(n int64) string { return fmt.Sprintf("%.1f MiB", float64((n*10+1<<20-1)>>20)/10) }

// DiskFull says how many items did not fit on the disk, and how much room they
// lack; "" if all did.
func (r Result) DiskFull() string {
	if r.NoSpace == 0 {
		return ""
	}
	return fmt.Sprintf("%s: items that do not fit: %d; room that they lack: %s",
		oci.ErrNoSpace.Message, r.NoSpace, mebibytes(r.MissingSpace))
}

// measureShort notes how much room is missing for all that did not fit.
func (r *run) measureShort(ctx context.Context) error {
	if r.result.NoSpace == 0 {
		return nil
	}
	room, err := r.storage.Room(ctx)
	if err != nil {
		return err
	}
	for _, n := range r.short {
		r.result.MissingSpace += n
	}
	r.result.MissingSpace = max(r.result.MissingSpace-max(room.Free, 0), 0)
	return nil
}

// A fitting decides for which images of a plan the disk has room, before a byte of
// them is fetched: an image that cannot be finished would only take the room of
// others.
type fitting struct {
	*run
	storage.Room
	plan     *plan
	underway map[digest.Digest]bool // blobs that are being fetched, whose room is promised
	promised map[digest.Digest]bool // other blobs of the images that fit
}

// fit fails the images of a plan for which the disk has no room. Those that lack
// the least are the first to get some. They get it from larger ones of earlier
// plans that nobody has begun to fetch, and then from what is here of larger ones
// of this plan.
func (r *run) fit(ctx context.Context, p *plan) error {
	room, err := r.storage.Room(ctx)
	if err != nil {
		return err
	}
	f := &fitting{run: r, Room: room, plan: p, underway: r.underway(), promised: map[digest.Digest]bool{}}
	images := slices.DeleteFunc(slices.Clone(p.images), func(im *image) bool { return im.err != nil })
	if f.fitsAll(images) {
		return nil
	}
	if err := r.storage.ReleaseRoom(ctx); err != nil {
		return err
	}
	if f.Room, err = r.storage.Room(ctx); err != nil {
		return err
	}
	if f.fitsAll(images) {
		return nil
	}
	slices.SortStableFunc(images, func(x, y *image) int { return cmp.Compare(f.cost(x), f.cost(y)) })
	images = slices.DeleteFunc(images, f.admit)
	if len(images) > 0 {
		f.displace(images)
		images = slices.DeleteFunc(images, f.admit)
	}
	for i, im := range images {
		if err := f.makeRoom(ctx, im, images[i+1:]); err != nil {
			return err
		}
		if !f.admit(im) {
			im.err = noRoomError{f.cost(im), f.Free}
			maps.Copy(p.short, f.lacks(im))
		}
	}
	return nil
}

// underway returns the blobs that are being fetched.
func (r *run) underway() map[digest.Digest]bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := map[digest.Digest]bool{}
	for d := range r.layers {
		all[d] = true
	}
	return all
}

// lacks returns the blobs for which an image needs room, and how much.
func (f *fitting) lacks(im *image) map[digest.Digest]int64 {
	all := map[digest.Digest]int64{}
	for _, part := range im.parts() {
		for _, b := range part.needs {
			if !b.elsewhere && b.missing == nil && !f.underway[b.Digest] && !f.promised[b.Digest] {
				all[b.Digest] = max(b.Size-f.Partial[b.Digest]+diskBlock-1, 0) / diskBlock * diskBlock
			}
		}
	}
	return all
}

// fitsAll reports whether there is room for all images together, as there mostly is.
func (f *fitting) fitsAll(images []*image) bool {
	all, total := map[digest.Digest]int64{}, int64(0)
	for _, im := range images {
		maps.Copy(all, f.lacks(im))
	}
	for _, n := range all {
		total += n
	}
	return total <= f.Free
}

// cost is how much room an image needs.
func (f *fitting) cost(im *image) (bytes int64) {
	for _, n := range f.lacks(im) {
		bytes += n
	}
	return bytes
}

// admit promises an image the room that it needs, if there is as much.
func (f *fitting) admit(im *image) bool {
	lacks, cost := f.lacks(im), f.cost(im)
	if cost > max(f.Free, 0) {
		return false
	}
	f.Free -= cost
	for d := range lacks {
		f.promised[d] = true
	}
	return true
}

// displace takes back what was promised to larger images than those that do not
// fit, where that gives one of these the room that it needs.
func (f *fitting) displace(images []*image) {
	larger := f.unbegun(images[0].priority)
	for _, im := range images {
		cost, free, n := f.cost(im), max(f.Free, 0), 0
		for n < len(larger) && free < cost && larger[n].needs > cost {
			free += larger[n].needs
			n++
		}
		if free < cost {
			return // nor do those that lack more fit
		}
		f.plan.displaced = append(f.plan.displaced, larger[:n]...)
		larger = larger[n:]
		f.Free = free
		f.admit(im)
	}
}

// A displaced image loses the room that it was promised.
type displaced struct {
	*image
	needs int64 // how much that is
}

// unbegun returns the images of earlier plans of which nobody has begun to fetch
// anything, the largest first, and that are not more urgent than priority.
func (f *fitting) unbegun(priority int) (all []displaced) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for im := range f.images {
		if im.err != nil || im.working || im.committed || im.priority < priority {
			continue
		}
		d, begun := displaced{image: im}, false
		for l := range im.layersOfAll() {
			shared := f.plan.needs(l.Digest) ||
				slices.ContainsFunc(l.images, func(o *image) bool { return o.main() != im })
			if begun = begun || f.download.HasStarted(l.Blob); !shared {
				d.needs += l.Size
			}
		}
		if !begun && d.needs > 0 {
			all = append(all, d)
		}
	}
	slices.SortFunc(all, func(x, y displaced) int { return cmp.Compare(y.needs, x.needs) })
	return all
}

// needs reports whether an image of the plan lacks a blob.
func (p *plan) needs(d digest.Digest) bool {
	return slices.ContainsFunc(p.images, func(im *image) bool {
		return slices.ContainsFunc(im.parts(), func(part *image) bool {
			return slices.ContainsFunc(part.needs, func(n need) bool { return n.Digest == d })
		})
	})
}

// failDisplaced fails the images that have no room any more.
func (r *run) failDisplaced(p *plan) {
	for _, d := range p.displaced {
		if d.err == nil && !d.working && !d.committed && r.images[d.image] {
			for l := range d.layersOfAll() {
				r.short[l.Digest] = l.Size
			}
			r.fail(d.image, noRoomError{d.needs, 0})
		}
	}
}

// makeRoom gives back what is here of larger images that cannot be finished, if an
// image has room then. Else it stays, because it came over the link already.
func (f *fitting) makeRoom(ctx context.Context, im *image, larger []*image) error {
	own := f.lacks(im)
	var given []digest.Digest
	free := f.Free
	for _, other := range slices.Backward(larger) {
		for d := range f.lacks(other) {
			if _, shared := own[d]; !shared && f.Partial[d] > 0 && !slices.Contains(given, d) {
				given = append(given, d)
				free += f.Partial[d]
			}
		}
		if free >= f.cost(im) {
			break
		}
	}
	if free < f.cost(im) {
		return nil
	}
	for _, d := range given {
		err := f.storage.DiscardTransfer(ctx, d)
		if errors.Is(err, storage.ErrBusy) {
			continue // somebody else fetches it
		}
		if err != nil {
			return err
		}
		f.log.Info("what came of a layer is given back, because it does not fit", "digest", d, "bytes", f.Partial[d])
		f.Free += f.Partial[d]
		delete(f.Partial, d)
	}
	return nil
}
