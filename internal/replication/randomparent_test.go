package replication_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"ferry/internal/faultnet"
	"ferry/internal/oci"
	"ferry/internal/replication"
)

// A randomParent is a parent with random content.
type randomParent struct {
	*parent
	rng          *rand.Rand
	layers       [][]byte
	maxLayer     int      // size limit of layers, in bytes; 0 is none
	hasPlatforms bool     // children of indexes have platforms, and the subscription may, too
	hasFilters   bool     // the subscription may have tag filters and keep-last
	count        uint64   // of pushed layers and images
	pushed       []pushed // images, indexes and referrers
}

type pushed struct {
	repository string
	manifest   oci.Descriptor
}

func (w *randomParent) layer() []byte {
	if len(w.layers) > 0 && w.rng.IntN(3) == 0 {
		return w.layers[w.rng.IntN(len(w.layers))] // shared
	}
	sizes := []int{0, 1, 100, 16 << 10, 16<<10 + 1, 200 << 10, 1 << 20, 1<<20 + 7, 3 << 20}
	if w.maxLayer > 0 {
		sizes = slices.DeleteFunc(sizes, func(n int) bool { return n > w.maxLayer })
	}
	w.count++
	layer := randomBytes(w.rng.Uint64(), sizes[w.rng.IntN(len(sizes))])
	w.layers = append(w.layers, layer)
	return layer
}

func (w *randomParent) push(repository string, tags ...string) oci.Descriptor {
	var layers [][]byte
	for range 1 + w.rng.IntN(3) {
		layers = append(layers, w.layer())
	}
	m := w.image(repository, append(layers, fmt.Appendf(nil, "%d", w.count)), tags...)
	w.count++
	return w.remember(repository, m)
}

func (w *randomParent) remember(repository string, m oci.Descriptor) oci.Descriptor {
	w.pushed = append(w.pushed, pushed{repository, m})
	return m
}

// pickPushed returns a pushed manifest. Half of the time it is the last one, so that referrers
// have referrers.
func (w *randomParent) pickPushed() pushed {
	if w.rng.IntN(2) == 0 {
		return w.pushed[len(w.pushed)-1]
	}
	return w.pushed[w.rng.IntN(len(w.pushed))]
}

// pushChildren pushes the children of an index.
func (w *randomParent) pushChildren(repository string) []oci.Descriptor {
	all := []oci.Descriptor{w.push(repository), w.push(repository)}
	if !w.hasPlatforms {
		return all
	}
	all = append(all, w.push(repository), w.push(repository)) // the last one has no platform
	for i, of := range []v1.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"},
		{OS: "windows", Architecture: "amd64"}} {
		all[i].Platform = &of
	}
	if w.rng.IntN(3) == 0 { // an index within the index
		all = append(all[:2], w.remember(repository, w.index(repository, all[1:])))
	}
	return all
}

// changeSomething makes one random change.
func (w *randomParent) changeSomething() {
	ctx := w.T.Context()
	repository := fmt.Sprintf("app/%d", w.rng.IntN(3))
	tag := fmt.Sprintf("v%d", w.rng.IntN(3))
	switch w.rng.IntN(13) {
	case 0, 1, 2, 3:
		w.push(repository, tag)
	case 4:
		w.remember(repository, w.index(repository, w.pushChildren(repository), tag))
	case 5:
		w.push(repository) // untagged
	case 6, 10:
		if len(w.pushed) > 0 {
			p := w.pickPushed()
			if has, _ := w.HasManifest(ctx, p.repository, p.manifest.Digest); has {
				w.remember(p.repository, w.referrer(p.repository, p.manifest, w.layer()))
			}
		}
	case 11, 12: // tag a pushed manifest, or push an index of it
		if len(w.pushed) > 0 {
			p := w.pickPushed()
			if has, _ := w.HasManifest(ctx, p.repository, p.manifest.Digest); has && w.rng.IntN(3) > 0 {
				w.allowRefusal(w.SetTag(ctx, p.repository, tag, p.manifest.Digest))
			} else if has {
				w.remember(p.repository, w.index(p.repository, []oci.Descriptor{p.manifest}))
			}
		}
	case 7:
		w.allowRefusal(w.DeleteTag(ctx, repository, tag))
	case 8:
		if len(w.pushed) > 0 {
			p := w.pickPushed()
			w.allowRefusal(w.DeleteManifest(ctx, p.repository, p.manifest.Digest))
		}
	case 9:
		if w.rng.IntN(3) == 0 {
			w.allowRefusal(w.DeleteRepository(ctx, repository))
		}
	}
}

// allowRefusal fails the test unless err is nil or a refusal by the registry.
func (w *randomParent) allowRefusal(err error) {
	w.T.Helper()
	if err != nil && oci.AsError(err) == nil {
		w.T.Fatal(err)
	}
}

// errClosed ends the sync window of a test.
var errClosed = errors.New("the window closed")

func TestReplicaMatchesItsParentOverABadLink(t *testing.T) {
	seeds := max(1, randomSeeds(t, 0)/100) // each takes seconds
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			w := &randomParent{parent: newParent(t), rng: rand.New(rand.NewPCG(seed, 1))}
			r := newReplica(t, w.parent,
				replication.Options{ChunkSize: 256 << 10, StallTimeout: 300 * time.Millisecond})
			for range 8 {
				w.changeSomething()
			}
			r.follow()
			watched, stop := context.WithCancel(t.Context())
			var g errgroup.Group
			g.Go(func() error { // every visible tag is whole
				checked := map[digest.Digest]bool{}
				for watched.Err() == nil {
					if _, err := readContent(context.WithoutCancel(watched), r.Storage, checked); err != nil {
						return fmt.Errorf("a client pulled: %w", err)
					}
				}
				return nil
			})
			g.Go(func() error {
				for watched.Err() == nil {
					if _, err := r.Collect(context.WithoutCancel(watched)); err != nil {
						return err
					}
				}
				return nil
			})
			faults := []faultnet.Faults{
				{CutEvery: 400 << 10, Rate: 8 << 20},
				{StallEvery: 1 << 20, CutEvery: 1 << 20},
				{CorruptEvery: 8 << 20, CutEvery: 2 << 20},
			}
			for round := range 6 {
				w.network.Set(faults[round%len(faults)])
				window, close := context.WithTimeoutCause(t.Context(), time.Duration(w.rng.IntN(1500))*time.Millisecond,
					errClosed)
				if _, err := r.Sync(window, r.source); err != nil && !errors.Is(err, errClosed) {
					t.Errorf("Sync: %v", err)
				}
				close()
				w.network.Set(faultnet.Faults{})
				for range 3 {
					w.changeSomething()
				}
				r.follow()
			}
			r.sync()
			stop()
			if err := g.Wait(); err != nil {
				t.Error(err)
			}
			assertInSync(t, w.parent, r.Storage)
		})
	}
}
