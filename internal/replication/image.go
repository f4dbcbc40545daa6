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

// An image is a wanted manifest with everything below it; or a referrer, which becomes
// visible after its subject. While an image is planned, the plan's job owns it; afterwards
// the run does.
type image struct {
	repository string
	root       digest.Digest          // the wanted manifest
	tags       []string               // of its items
	manifests  []PlanManifest         // to store, in this order: children first, the root last
	compared   map[digest.Digest]bool // digests of manifests
	needed     []neededBlob           // blobs that its repository lacks
	referrers  []*image
	subject    *image // the image that this referrer follows; nil if it is no referrer

	seq         int // images are numbered in the order in which they are planned
	priority    int
	items       []metadb.SyncItem // in sync once the image and its referrers are visible
	blobsToLink []digest.Digest   // blobs that are, or will be, stored for other repositories
	layers      []*layer          // blobs that were downloaded, or are
	waitsFor    map[*layer]bool   // layers in flight
	bytesLeft   int64             // of those, and of its referrers'
	err         error             // why the image cannot become visible
	tagErrors   map[string]error  // why a tag cannot be set
	planned     bool              // the fields above are filled in
	queued      bool              // in run.toCommit
	committing  bool
	canceled    bool // no longer wanted
	committed   bool
}

// A neededBlob is a blob that the repository of an image lacks.
type neededBlob struct {
	oci.Descriptor
	elsewhere bool  // another repository holds it
	optional  bool  // the image is complete without it
	batch     bool  // it can be fetched in a batch
	missing   error // why the source does not send it
}

func newImage(repository string, root digest.Digest) *image {
	return &image{
		repository: repository, root: root,
		compared: map[digest.Digest]bool{}, waitsFor: map[*layer]bool{}, tagErrors: map[string]error{},
	}
}

func (im *image) ref() Ref { return Ref{Repository: im.repository, Digest: im.root} }

// subjectOrSelf returns the subject of a referrer, and any other image itself.
func (im *image) subjectOrSelf() *image {
	if im.subject != nil {
		return im.subject
	}
	return im
}

// withReferrers returns the image and its referrers.
func (im *image) withReferrers() []*image { return append([]*image{im}, im.referrers...) }

// rank returns how soon the layers of the image are fetched.
func (im *image) rank() download.Rank {
	return download.Rank{Priority: im.priority, Left: im.bytesLeft}
}

// allLayers returns the layers of the image and its referrers.
func (im *image) allLayers() map[*layer]bool {
	all := map[*layer]bool{}
	for _, part := range im.withReferrers() {
		for _, l := range part.layers {
			all[l] = true
		}
	}
	return all
}

// isOptional reports whether the image is complete without a blob that it lacks.
func (im *image) isOptional(d digest.Digest) bool {
	return !slices.ContainsFunc(im.needed, func(b neededBlob) bool { return b.Digest == d && !b.optional })
}

// bytesToFetch returns how many bytes must be fetched for the image and its referrers.
func (im *image) bytesToFetch() (n int64) {
	seen := map[digest.Digest]bool{}
	for _, part := range im.withReferrers() {
		for _, b := range part.needed {
			if !b.elsewhere && !seen[b.Digest] {
				seen[b.Digest] = true
				n += b.Size
			}
		}
	}
	return n
}

// isReady reports whether the image can become visible, apart from its subject.
func (im *image) isReady() bool {
	return im.planned && im.err == nil && !im.committed && len(im.waitsFor) == 0
}

// outcome reports whether the image and all of its referrers are visible or failed, if
// those in visible are taken as visible. failure is the first error among them.
func (im *image) outcome(visible ...*image) (known bool, failure error) {
	if im.err != nil {
		return true, im.err
	}
	known = true
	for _, part := range im.withReferrers() {
		failure = cmp.Or(failure, part.err)
		known = known && (part.err != nil || part.committed || slices.Contains(visible, part))
	}
	return known, failure
}

// groupByManifest returns an image for each manifest that the items name.
func groupByManifest(rows []metadb.SyncItem) []*image {
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

// An unavailableError says that the source does not have, or cannot send, something that an
// image needs.
type unavailableError struct {
	error
	unsupported bool // the source has it, in a format that this registry cannot serve
}

func unavailable(format string, args ...any) error {
	return unavailableError{fmt.Errorf(format, args...), false}
}

// Unwrap returns the reason.
func (e unavailableError) Unwrap() error { return e.error }

// Permanent reports that a retry is useless; see package retry.
func (e unavailableError) Permanent() bool { return true }

// wrongSizeError is the error of an image whose manifest states a wrong size for a blob.
func wrongSizeError(b oci.Descriptor, size int64) error {
	return unavailable("the manifest says that blob %s has %d bytes, and it has %d", b.Digest, b.Size, size)
}

// errCanceled is the error of an image that is no longer wanted.
var errCanceled = errors.New("the image is not wanted any more")
