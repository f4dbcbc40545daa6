package replication

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
)

// A layer is a blob on its way, and the images that wait for it.
type layer struct {
	*download.Blob
	added  bool // to the downloader
	images []*image
	others []other
}

// An other is an image whose manifest says that a layer has another size.
type other struct {
	image *image
	need
}

// join makes an image wait for some of what it lacks.
func (r *run) join(im *image, needs ...need) {
	for _, b := range needs {
		l := r.layers[b.Digest]
		switch {
		case im.err != nil:
			return
		case b.elsewhere && l == nil:
			im.links = append(im.links, b.Digest)
			continue
		case l == nil && b.missing != nil:
			im.err = b.missing
			continue
		case l == nil:
			if err := r.download.Quarantined(b.Digest, b.Size); err != nil {
				if !im.isOptional(b.Digest) {
					im.err = err
				}
				continue
			}
			l = &layer{Blob: &download.Blob{Digest: b.Digest, Size: b.Size, Batch: b.batch}}
			r.layers[b.Digest] = l
			r.fresh = append(r.fresh, l)
		}
		if im.waits[l] {
			continue
		}
		im.waits[l] = true
		im.layers = append(im.layers, l)
		if l.Size != b.Size {
			l.others = append(l.others, other{im, b})
			continue
		}
		l.images = append(l.images, im)
		switch {
		case slices.Contains(l.Repositories, im.repository):
		case !l.added:
			l.Repositories = append(l.Repositories, im.repository)
		default:
			im.links = append(im.links, b.Digest) // the blob's commit does not know this repository
		}
	}
}

// fetchFresh hands the layers to the downloader that came since the last time,
// and that somebody still needs. All images of a plan have joined them by then.
func (r *run) fetchFresh() {
	var blobs []*download.Blob
	for _, l := range r.fresh {
		if r.layers[l.Digest] == l {
			l.added = true
			r.rank(l)
			blobs = append(blobs, l.Blob)
		}
	}
	r.fresh = nil
	r.download.Add(blobs...)
}

// rank tells the downloader how soon a layer is needed, if it knows the layer.
func (r *run) rank(l *layer) {
	if !l.added {
		return
	}
	best := download.Rank{Priority: math.MaxInt, Left: math.MaxInt64}
	for _, im := range l.images {
		if of := im.main().rank(); of.Compare(best) < 0 {
			best = of
		}
	}
	r.download.Rank(l.Blob, best)
}

// rerank ranks the layers that images wait for.
func (r *run) rerank(images ...*image) {
	seen := map[*layer]bool{}
	for _, im := range images {
		for _, part := range im.parts() {
			for l := range part.waits {
				if !seen[l] {
					seen[l] = true
					r.rank(l)
				}
			}
		}
	}
}

// fetched lets the images go on that waited for a layer, or fails them.
func (r *run) fetched(b download.Result) {
	l := r.layers[b.Blob.Digest]
	if l == nil || l.Blob != b.Blob {
		return // it was dropped
	}
	if b.Deferred {
		r.doubted = l.images[0]
		return
	}
	delete(r.layers, l.Digest)
	mains := map[*image]bool{}
	for _, im := range slices.Clone(l.images) {
		if b.Err != nil && !im.isOptional(l.Digest) {
			r.fail(im, b.Err)
			continue
		}
		if b.Err != nil {
			r.log.Warn("layer need not be here, and is left out", "repo", im.repository, "digest", l.Digest, "err",
				b.Err)
			im.links = slices.DeleteFunc(im.links, func(d digest.Digest) bool { return d == l.Digest })
		}
		delete(im.waits, l)
		if main := im.main(); !mains[main] {
			mains[main] = true
			main.left -= l.Size
		}
	}
	for im := range mains {
		r.advance(im)
	}
	r.settleOthers(l, b.Err == nil)
	r.rerank(slices.Collect(maps.Keys(mains))...)
}

// settleOthers fails the images that say that a layer has another size, if it
// is here. Else theirs may be the right one.
func (r *run) settleOthers(l *layer, here bool) {
	for _, o := range l.others {
		delete(o.image.waits, l)
		o.image.layers = slices.DeleteFunc(o.image.layers, func(x *layer) bool { return x == l })
		switch {
		case o.image.err != nil:
		case here:
			r.fail(o.image, wrongSize(o.Descriptor, l.Size))
		default:
			r.join(o.image, o.need)
			if o.image.err != nil {
				r.fail(o.image, o.image.err)
			}
		}
	}
}

// fail notes why an image cannot be whole, and drops the layers that nobody
// needs then. With an image its referrers fail.
func (r *run) fail(im *image, err error) {
	im.err = cmp.Or(im.err, err)
	if im.subject == nil {
		for _, part := range im.referrers {
			r.fail(part, err)
		}
	}
	for l := range im.waits {
		r.leave(im, l)
	}
	clear(im.waits)
	r.advance(im.main())
}

// leave lets an image wait no longer for a layer, and drops the layer if no
// other image does.
func (r *run) leave(im *image, l *layer) {
	l.images = slices.DeleteFunc(l.images, func(o *image) bool { return o == im })
	l.others = slices.DeleteFunc(l.others, func(o other) bool { return o.image == im })
	if len(l.images) > 0 || r.layers[l.Digest] != l {
		return
	}
	delete(r.layers, l.Digest)
	if l.added {
		r.download.Cancel(l.Blob)
	}
	r.settleOthers(l, false)
}
