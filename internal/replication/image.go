package replication

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/opencontainers/go-digest"

	"ferry/internal/download"
	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// An image is a wanted manifest with all that is below it, in the order in
// which it must become visible; or a referrer, which follows its subject. What
// a plan says of it is written by whoever assembles it; everything else belongs
// to the run.
type image struct {
	repository string
	root       digest.Digest
	tags       []string               // that have it, when it was read from the list
	manifests  []PlanManifest         // root last; without those that were here already
	has        map[digest.Digest]bool // which those are
	needs      []need                 // its blobs that are not in its repository
	referrers  []*image
	subject    *image // of a referrer

	seq       int // the order in which images were planned
	priority  int
	items     []metadb.SyncItem // that are synced once it is whole, referrers and all
	links     []digest.Digest   // blobs that are here under another repository, or will be
	layers    []*layer          // that were missing
	waits     map[*layer]bool   // for those of them that are on their way
	left      int64             // bytes of those, and of its referrers'
	err       error             // why it cannot be whole
	tagErrs   map[string]error  // why a tag cannot be set
	planned   bool              // all of the above is known
	queued    bool              // it is to be committed, or its outcome noted
	working   bool              // that is being done
	cancelled bool              // nobody wants it any more
	committed bool
}

// A need is a blob that an image lacks.
type need struct {
	oci.Descriptor
	elsewhere bool  // it is here under another repository
	optional  bool  // the image is whole without it, too
	batch     bool  // it can come in a batch
	missing   error // the source does not have it
}

func newImage(repository string, root digest.Digest) *image {
	return &image{
		repository: repository, root: root,
		has: map[digest.Digest]bool{}, waits: map[*layer]bool{}, tagErrs: map[string]error{},
	}
}

func (im *image) ref() Ref { return Ref{Repository: im.repository, Digest: im.root} }

// main is the image itself, or the subject of a referrer.
func (im *image) main() *image {
	if im.subject != nil {
		return im.subject
	}
	return im
}

// parts are the image and its referrers.
func (im *image) parts() []*image { return append([]*image{im}, im.referrers...) }

// rank is how soon the layers of an image are fetched.
func (im *image) rank() download.Rank { return download.Rank{Priority: im.priority, Left: im.left} }

// layersOfAll are the layers that were missing of the image and its referrers.
func (im *image) layersOfAll() map[*layer]bool {
	all := map[*layer]bool{}
	for _, part := range im.parts() {
		for _, l := range part.layers {
			all[l] = true
		}
	}
	return all
}

// isOptional reports whether the image is whole without a blob that it lacks.
func (im *image) isOptional(d digest.Digest) bool {
	return !slices.ContainsFunc(im.needs, func(n need) bool { return n.Digest == d && !n.optional })
}

// bytes are how many bytes are to be fetched for the image and its referrers.
func (im *image) bytes() (n int64) {
	seen := map[digest.Digest]bool{}
	for _, part := range im.parts() {
		for _, b := range part.needs {
			if !b.elsewhere && !seen[b.Digest] {
				seen[b.Digest] = true
				n += b.Size
			}
		}
	}
	return n
}

// ready reports whether the image can become visible, once its subject is.
func (im *image) ready() bool {
	return im.planned && im.err == nil && !im.committed && len(im.waits) == 0
}

// outcome reports whether it is known what became of the image and its
// referrers once some parts are visible, and the first reason why one is not here.
func (im *image) outcome(visible ...*image) (known bool, failure error) {
	if im.err != nil {
		return true, im.err
	}
	known = true
	for _, part := range im.parts() {
		failure = cmp.Or(failure, part.err)
		known = known && (part.err != nil || part.committed || slices.Contains(visible, part))
	}
	return known, failure
}

// group puts the items of one manifest together.
func group(rows []metadb.SyncItem) []*image {
	var images []*image
	byRoot := map[Ref]*image{}
	for _, row := range rows {
		im := newImage(row.Repository, digest.Digest(row.Digest))
		if known := byRoot[im.ref()]; known != nil {
			im = known
		} else {
			byRoot[im.ref()] = im
			images = append(images, im)
		}
		im.items = append(im.items, row)
		if row.Tag != "" {
			im.tags = append(im.tags, row.Tag)
		}
	}
	return images
}

// An absentError says that the source does not have what is needed.
type absentError struct {
	error
	useless bool // the source has it, and this registry can make nothing of it
}

func absent(format string, args ...any) error {
	return absentError{fmt.Errorf(format, args...), false}
}

// Unwrap returns the error itself.
func (e absentError) Unwrap() error { return e.error }

// Permanent reports that another try is useless; see package retry.
func (e absentError) Permanent() bool { return true }

// wrongSize is the error of an image whose manifest says a size that the blob
// does not have.
func wrongSize(b oci.Descriptor, size int64) error {
	return absent("the manifest says that blob %s has %d bytes, and it has %d", b.Digest, b.Size, size)
}

// errCancelled is the error of an image that nobody wants any more.
var errCancelled = errors.New("the image is not wanted any more")
