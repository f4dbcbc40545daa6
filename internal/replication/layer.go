package replication

import (
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
)

// A layer is a blob in flight, and the images that wait for it.
type layer struct {
	*download.Blob
	added      bool // to the downloader
	images     []*image
	otherSizes []otherSize
}

// An otherSize is an image whose manifest states another size for a layer. Its image waits
// until the layer's digest proves which size is right.
type otherSize struct {
	image *image
	neededBlob
}

// waitForBlobs makes an image wait for blobs that it needs. It adds layers that are not in
// flight yet to newLayers. It sets im.err if a blob cannot be had.
func (r *run) waitForBlobs(im *image, needed ...neededBlob) {
	for _, b := range needed {
		l := r.layers[b.Digest]
		switch {
		case im.err != nil:
			return
		case b.elsewhere && l == nil:
			im.blobsToLink = append(im.blobsToLink, b.Digest)
			continue
		case l == nil && b.missing != nil:
			im.err = b.missing
			continue
		case l == nil:
			if err := r.download.CheckQuarantine(b.Digest, b.Size); err != nil {
				if !im.isOptional(b.Digest) {
					im.err = err
				}
				continue
			}
			l = &layer{Blob: &download.Blob{Digest: b.Digest, Size: b.Size, Batch: b.batch}}
			r.layers[b.Digest] = l
			r.newLayers = append(r.newLayers, l)
		}
		if im.waitsFor[l] {
			continue
		}
		im.waitsFor[l] = true
		im.layers = append(im.layers, l)
		if l.Size != b.Size {
			l.otherSizes = append(l.otherSizes, otherSize{im, b})
			continue
		}
		l.images = append(l.images, im)
		switch {
		case slices.Contains(l.Repositories, im.repository):
		case !l.added:
			l.Repositories = append(l.Repositories, im.repository)
		default:
			im.blobsToLink = append(im.blobsToLink, b.Digest) // the download does not know this repository
		}
	}
}

// queueNewLayers adds the new layers to the downloader, except those that no image needs
// any more. By then, all images of a plan wait for them, so their ranks are right.
func (r *run) queueNewLayers() {
	var blobs []*download.Blob
	for _, l := range r.newLayers {
		if r.layers[l.Digest] == l {
			l.added = true
			r.rankLayer(l)
			blobs = append(blobs, l.Blob)
		}
	}
	r.newLayers = nil
	r.download.Add(blobs...)
}

// rankLayer tells the downloader how soon a layer is needed: the best rank of the images
// that wait for it.
func (r *run) rankLayer(l *layer) {
	if !l.added {
		return
	}
	best := download.Rank{Priority: math.MaxInt, Left: math.MaxInt64}
	for _, im := range l.images {
		if rank := im.subjectOrSelf().rank(); rank.Compare(best) < 0 {
			best = rank
		}
	}
	r.download.Rank(l.Blob, best)
}

// rankLayersOf ranks the layers that images wait for.
func (r *run) rankLayersOf(images ...*image) {
	seen := map[*layer]bool{}
	for _, im := range images {
		for _, part := range im.withReferrers() {
			for l := range part.waitsFor {
				if !seen[l] {
					seen[l] = true
					r.rankLayer(l)
				}
			}
		}
	}
}

// layerDownloaded handles the downloader's result: it continues, or fails, the images that
// wait for the layer.
func (r *run) layerDownloaded(result download.Result) {
	l := r.layers[result.Blob.Digest]
	if l == nil || l.Blob != result.Blob {
		return // no image needs it any more
	}
	if result.Deferred {
		r.suspect = l.images[0]
		return
	}
	delete(r.layers, l.Digest)
	affected := map[*image]bool{} // images and subjects of referrers
	for _, im := range slices.Clone(l.images) {
		if result.Err != nil && !im.isOptional(l.Digest) {
			r.failImage(im, result.Err)
			continue
		}
		if result.Err != nil {
			r.log.Warn("optional layer is left out", "repo", im.repository, "digest", l.Digest, "err", result.Err)
			im.blobsToLink = slices.DeleteFunc(im.blobsToLink, func(d digest.Digest) bool { return d == l.Digest })
		}
		delete(im.waitsFor, l)
		if main := im.subjectOrSelf(); !affected[main] {
			affected[main] = true
			main.bytesLeft -= l.Size
		}
	}
	for im := range affected {
		r.queueCommit(im)
	}
	r.resolveOtherSizes(l, result.Err == nil)
	r.rankLayersOf(slices.Collect(maps.Keys(affected))...)
}

// resolveOtherSizes handles the images that state another size for a layer. If the layer
// was downloaded, those images are wrong and fail. If not, their size may be the right
// one, and they wait for a layer of that size.
func (r *run) resolveOtherSizes(l *layer, downloaded bool) {
	for _, o := range l.otherSizes {
		delete(o.image.waitsFor, l)
		o.image.layers = slices.DeleteFunc(o.image.layers, func(x *layer) bool { return x == l })
		switch {
		case o.image.err != nil:
		case downloaded:
			r.failImage(o.image, wrongSizeError(o.Descriptor, l.Size))
		default:
			r.waitForBlobs(o.image, o.neededBlob)
			if o.image.err != nil {
				r.failImage(o.image, o.image.err)
			}
		}
	}
}

// failImage records why an image cannot become visible, fails its referrers, too, and
// stops the downloads that no other image needs.
func (r *run) failImage(im *image, err error) {
	im.err = cmp.Or(im.err, err)
	if im.subject == nil {
		for _, referrer := range im.referrers {
			r.failImage(referrer, err)
		}
	}
	for l := range im.waitsFor {
		r.stopWaiting(im, l)
	}
	clear(im.waitsFor)
	r.queueCommit(im.subjectOrSelf())
}

// stopWaiting removes an image from a layer, and cancels the download if no other image
// waits for it.
func (r *run) stopWaiting(im *image, l *layer) {
	l.images = slices.DeleteFunc(l.images, func(o *image) bool { return o == im })
	l.otherSizes = slices.DeleteFunc(l.otherSizes, func(o otherSize) bool { return o.image == im })
	if len(l.images) > 0 || r.layers[l.Digest] != l {
		return
	}
	delete(r.layers, l.Digest)
	if l.added {
		r.download.Cancel(l.Blob)
	}
	r.resolveOtherSizes(l, false)
}
