package replication_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage/storagetest"
	"ferry/internal/wire"
)

// A planSource calls functions of a test for plan requests, and for the entries that
// it receives.
type planSource struct {
	replication.Source
	edit      func(replication.PlanEntry) (replication.PlanEntry, error)
	onRequest func([]replication.Ref)
}

func (a *planSource) Plan(ctx context.Context, want, have []replication.Ref,
	fn func(replication.PlanEntry) error) error {
	if a.onRequest != nil {
		a.onRequest(want)
	}
	return a.Source.Plan(ctx, want, have, func(e replication.PlanEntry) error {
		if a.edit != nil {
			var err error
			if e, err = a.edit(e); err != nil {
				return err
			}
		}
		return fn(e)
	})
}

func ref(repository string, d digest.Digest) replication.Ref {
	return replication.Ref{Repository: repository, Digest: d}
}

// A bufferedSource sends all entries of a plan at the end, and none if one fails.
type bufferedSource struct {
	replication.Source
	edit func(replication.PlanEntry) (replication.PlanEntry, error)
}

func (u *bufferedSource) Plan(ctx context.Context, want, have []replication.Ref,
	fn func(replication.PlanEntry) error) error {
	var buffered []replication.PlanEntry
	err := u.Source.Plan(ctx, want, have, func(e replication.PlanEntry) (err error) {
		if e, err = u.edit(e); err == nil {
			buffered = append(buffered, e)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, e := range buffered {
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func TestInterruptedPlanContinuesWhereItStopped(t *testing.T) {
	p := newParent(t)
	const images = 60
	for i := range images {
		p.image("app", [][]byte{randomBytes(uint64(i), 2000)}, fmt.Sprint("v", i))
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	cut := errors.New("cut")
	sent := 0
	src := &planSource{Source: r.source, edit: func(e replication.PlanEntry) (replication.PlanEntry, error) {
		if sent++; sent%25 == 0 {
			return e, cut
		}
		return e, nil
	}}
	result, err := r.Sync(t.Context(), src)
	if err != nil || result.Synced != images {
		t.Fatalf("Sync = %+v, %v", result, err)
	}
	if least := 4 * images; sent > least+least/4 {
		t.Errorf("%d entries were sent, want about %d", sent, least)
	}
	assertInSync(t, p, r.Storage)
}

func TestImageThatBreaksThePlanFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		var bad oci.Descriptor
		for i := range 20 {
			if m := p.image("app", [][]byte{randomBytes(uint64(i), 100)}, fmt.Sprint("v", i)); i == 11 {
				bad = m
			}
		}
		for name, edit := range map[string]func(replication.PlanEntry) (replication.PlanEntry, error){
			"wrong manifest": func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if e.Manifest != nil && e.Manifest.Digest == bad.Digest {
					m := *e.Manifest
					m.Payload = append([]byte(" "), m.Payload...)
					e.Manifest = &m
				}
				return e, nil
			},
			"cut": func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if e.Manifest != nil && e.Manifest.Digest == bad.Digest {
					return e, errors.New("unexpected end")
				}
				return e, nil
			},
		} {
			r := newReplica(t, p, replication.Options{})
			r.follow()
			src := &bufferedSource{Source: r.source, edit: edit}
			result, err := r.Sync(t.Context(), src)
			if err != nil || result.Synced != 19 || result.Failed != 1 {
				t.Errorf("%s: Sync = %+v, %v: %v", name, result, err, r.items())
			}
			if r.sync(); !t.Failed() {
				assertInSync(t, p, r.Storage)
			}
		}
	})
}

func TestHugePlansAreSplit(t *testing.T) {
	p := newParent(t)
	const images = 8
	config := p.PushBlob("app", []byte("{}"))
	for i := range images {
		config.Annotations = map[string]string{"n": fmt.Sprintf("%01000000d", i)}
		p.Push("app",
			storagetest.Manifest{Config: &config,
				Layers: []oci.Descriptor{p.PushBlob("app", randomBytes(uint64(i), 20<<10))}}, fmt.Sprint("v", i))
	}
	r := newReplica(t, p, replication.Options{})
	r.follow()
	r.sync()
	if plans := p.plans.Load(); plans < 3 || plans > images {
		t.Errorf("%d plans were requested", plans)
	}
	assertInSync(t, p, r.Storage)
}

// The second plan is requested while the first one's layers are downloaded: here, its answer
// waits for the first byte of them.
func TestNewLayerFlowsAfterOnePlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		const images = 60
		for i := range images {
			p.image("app", [][]byte{randomBytes(uint64(i), 17<<10)}, fmt.Sprint("v", i))
		}
		r := newReplica(t, p, replication.Options{})
		r.follow()
		flowed := make(chan struct{})
		flow := sync.OnceFunc(func() { close(flowed) })
		p.onSent.Store(func(int64) { flow() })
		p.respond = func(_ http.ResponseWriter, rq *http.Request) bool {
			if rq.URL.Path != wire.PathPlan || p.plans.Load() == 1 {
				return false
			}
			select {
			case <-flowed:
			case <-time.After(time.Minute): // in the bubble's time: every other goroutine waits
				t.Error("no byte of a layer was sent while the second plan was pending")
				flow()
			}
			return false
		}
		r.sync()
		assertInSync(t, p, r.Storage)
	})
}

func TestInvalidPlanEntriesAreRejected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipeParent(t)
		p.image("app", [][]byte{randomBytes(1, 100)}, "v1")
		other := oci.Descriptor{Digest: digest.FromString("other")}
		for name, extra := range map[string]replication.PlanEntry{
			"nothing":          {},
			"negative size":    {Blob: &replication.PlanBlob{Ref: ref("app", other.Digest), Size: -1}},
			"malformed digest": {Blob: &replication.PlanBlob{Ref: ref("app", "sha256:../../x"), Size: 1}},
			"wrong content": {Blob: &replication.PlanBlob{Ref: ref("app", other.Digest), Size: 1,
				Data: []byte("x")}},
			"another repository": {Blob: &replication.PlanBlob{Ref: ref("else", other.Digest), Size: 5,
				Data: []byte("other")}},
			"no manifest": {Manifest: &replication.PlanManifest{Ref: ref("app", other.Digest),
				Payload: []byte("other")}},
		} {
			r := newReplica(t, p, replication.Options{})
			r.follow()
			first := true
			src := &planSource{Source: r.source}
			src.onRequest = func([]replication.Ref) { first = true }
			src.edit = func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if first {
					first = false
					return extra, nil
				}
				return e, nil
			}
			if _, err := r.Sync(t.Context(), src); err != nil {
				t.Errorf("%s: Sync: %v", name, err)
			}
			if has, _ := r.HasBlob(t.Context(), other.Digest); has {
				t.Errorf("%s: the blob was stored", name)
			}
			r.relist()
			r.sync()
			assertInSync(t, p, r.Storage)
		}
	})
}

// The referrers of an image follow its manifest. If the stream ends among them, the rest is
// requested again.
func TestPlanCutAmongReferrersLosesNone(t *testing.T) {
	for cutAt := range 6 {
		t.Run(fmt.Sprint("at manifest ", cutAt), func(t *testing.T) {
			p := newParent(t)
			v1 := p.image("app", [][]byte{randomBytes(1, 2000)}, "v1")
			for i := range 4 {
				p.referrer("app", v1, randomBytes(uint64(100+i), 3000))
			}
			r := newReplica(t, p,
				replication.Options{Prune: replication.PruneNone}) // a short listing alone would remove the rest
			r.want("app", replication.ListedItem{Tag: "v1", Digest: v1.Digest})
			manifests := 0
			src := &planSource{Source: r.source, edit: func(e replication.PlanEntry) (replication.PlanEntry, error) {
				if e.Manifest != nil {
					if manifests++; manifests == cutAt {
						return e, errors.New("cut")
					}
				}
				return e, nil
			}}
			if result, err := r.Sync(t.Context(), src); err != nil || result.Synced != 1 {
				t.Fatalf("Sync = %+v, %v", result, err)
			}
			if all, err := r.ReferrerDigests(t.Context(), "app", v1.Digest); err != nil || len(all) != 4 {
				t.Errorf("%d referrers are stored, %v; want 4", len(all), err)
			}
		})
	}
}

func TestOversizedPlanLosesNoReferrers(t *testing.T) {
	p := newParent(t)
	config := p.PushBlob("app", []byte("{}"))
	var items []replication.ListedItem
	const images, each = 8, 5
	for i := range images {
		config.Annotations = map[string]string{"n": fmt.Sprint("image", i)}
		m := p.Push("app", storagetest.Manifest{Config: &config}, fmt.Sprint("v", i))
		for j := range each { // of 200 kB, to fill several plans
			config.Annotations = map[string]string{"n": fmt.Sprintf("%0200000d", each*i+j)}
			p.Push("app", storagetest.Manifest{Config: &config, Subject: &m})
		}
		items = append(items, replication.ListedItem{Tag: fmt.Sprint("v", i), Digest: m.Digest})
	}
	r := newReplica(t, p,
		replication.Options{Prune: replication.PruneNone}) // a short listing alone would remove the rest
	r.want("app", items...)
	r.sync()
	for _, i := range items {
		if all, err := r.ReferrerDigests(t.Context(), "app", i.Digest); err != nil || len(all) != each {
			t.Errorf("%s: %d referrers are stored, %v; want %d", i.Tag, len(all), err, each)
		}
	}
}
