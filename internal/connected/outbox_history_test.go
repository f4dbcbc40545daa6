package connected_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/storage"
)

// TestEveryAcknowledgedPushReachesTheRoot drives random pushes and deletions at a root, at two sites
// below it, and at one below these, over links that are cut at any byte, with sites that restart. In
// the end all registries agree, and each image that was acknowledged, and that no client replaced, is at
// the root, under its tag or under that of a conflict. Until it is there, its site serves it.
func TestEveryAcknowledgedPushReachesTheRoot(t *testing.T) {
	limitChecks(t)
	logSeed(t)
	rapid.Check(t, func(r *rapid.T) {
		synctest.Test(t, func(t *testing.T) { runHistory(t, r) })
	})
}

// limitChecks makes rapid check few histories, because each needs four registries, unless -rapid.checks
// says how many.
func limitChecks(t *testing.T) {
	n := "8"
	if testing.Short() {
		n = "10" // rapid divides it by five
	}
	setDefault(t, "rapid.checks", n)
	// A failure is not shrunk: rapid's own panics do not pass through a bubble of testing/synctest.
	setDefault(t, "rapid.shrinktime", "0s")
}

// logSeed chooses the seed of rapid, unless -rapid.seed says it, and logs it: rapid does not learn of failures
// in a bubble.
func logSeed(t *testing.T) {
	setDefault(t, "rapid.seed", fmt.Sprint(rand.Uint64()))
	t.Logf("-rapid.seed=%s", flag.Lookup("rapid.seed").Value)
}

// setDefault sets a flag for one test, unless the command line has it.
func setDefault(t *testing.T, name, value string) {
	isSet := false
	flag.Visit(func(f *flag.Flag) { isSet = isSet || f.Name == name })
	if isSet {
		return
	}
	f := flag.Lookup(name)
	if err := f.Value.Set(value); err != nil { // flag.Set would make it a flag of the command line
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Value.Set(f.DefValue) })
}

// A history is the registries of a random run.
type history struct {
	t    *testing.T
	all  []*instance // the root first
	n    int
	last map[string]digest.Digest // what a client last pushed or removed, by registry, repository and tag
	// replaced has the images, with their repositories, over which a client pushed, or which it removed.
	replaced map[string]bool
}

func runHistory(t *testing.T, r *rapid.T) {
	root := newRoot(t)
	ship := root.connect("ship1", root.readWrite("ship1"))
	rig := root.connect("rig01", root.readWrite("rig01"))
	cabin := ship.connect("cabin", root.readWrite("cabin"))
	h := &history{t: t, all: []*instance{root, ship, rig, cabin}, last: map[string]digest.Digest{},
		replaced: map[string]bool{}}
	await(t, "all are activated", func() bool {
		return !ship.agent.LastAnswer().IsZero() && !rig.agent.LastAnswer().IsZero() &&
			!cabin.agent.LastAnswer().IsZero()
	})
	lifetime := rapid.OneOf(rapid.IntRange(0, 12_000), rapid.Just(math.MaxInt32))
	lifetimes := rapid.SliceOfN(lifetime, 3, 8).Draw(r, "bytes until connections break")
	delays := newDelays(rapid.Uint64().Draw(r, "delays"))
	for i, s := range h.all {
		next := i
		s.link.delayBy(delays)
		s.link.breakAfter(func() int { // called with the lock of the link
			next++
			return lifetimes[next%len(lifetimes)]
		})
		s.link.cut()
		s.link.restore()
	}
	for range rapid.IntRange(8, 25).Draw(r, "steps") {
		at := rapid.SampledFrom(h.all).Draw(r, "registry")
		repository := rapid.SampledFrom([]string{"app/a", "app/b"}).Draw(r, "repository")
		tag := rapid.SampledFrom([]string{"v1", "v2", ownTag + at.name}).Draw(r, "tag")
		steps := []string{"push", "push", "push", "push again", "push during a sync", "push during a sync",
			"push during a sync", "retag", "delete", "cut", "restore", "restart", "wait", "collect"}
		step := rapid.SampledFrom(steps).Draw(r, "step")
		h.log("%s at %q of %s:%s", step, at.name, repository, tag)
		switch step {
		case "push":
			h.push(at, repository, tag, rapid.IntRange(1, 3000).Draw(r, "size"))
		case "push again": // while the answer to the first push may be lost
			h.push(at, repository, tag, 1)
			h.wait(rapid.IntRange(0, 300).Draw(r, "milliseconds"))
			if at.parent != nil {
				at.parent.link.cut()
			}
			h.push(at, repository, tag, 1)
			if at.parent != nil {
				at.parent.link.restore()
			}
		case "push during a sync": // that sets or removes the same tag
			if at.parent == nil || tag == ownTag+at.name {
				continue
			}
			at.parent.link.restore()
			if rapid.Bool().Draw(r, "removed at the parent") { // once another image is there
				h.delete(at.parent, repository, tag)
				h.push(at.parent, repository, ownTag+"other", rapid.IntRange(1, 3000).Draw(r, "size"))
			} else {
				h.push(at.parent, repository, tag, rapid.IntRange(1, 3000).Draw(r, "size"))
			}
			if rapid.Bool().Draw(r, "after the listing") {
				h.waitFor(func() bool { return at.agent.Status().ItemsPending > 0 })
			}
			h.wait(rapid.IntRange(0, 600).Draw(r, "milliseconds"))
			h.push(at, repository, tag, 1)
			h.wait(1000)
		case "retag":
			h.retag(at, repository, tag)
		case "delete":
			h.delete(at, repository, tag)
		case "cut":
			at.link.cut()
		case "restore":
			at.link.restore()
		case "restart":
			if at.parent != nil {
				at.restart()
			}
		case "wait":
			h.wait(rapid.IntRange(0, 3000).Draw(r, "milliseconds"))
		case "collect":
			if _, err := at.Storage.Collect(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, s := range h.all {
		s.link.breakAfter(nil)
		s.link.delayBy(nil)
		s.link.restore()
	}
	await(t, "all registries agree", func() bool { return h.agree() })
	h.check()
	for _, s := range h.all[1:] {
		s.stop()
	}
}

// newDelays returns random delays. Most are short, so that a sync takes many different times.
func newDelays(seed uint64) func() time.Duration {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, 0))
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.IntN(200)) * time.Millisecond
	}
}

// delete removes a tag, if it is there.
func (h *history) delete(at *instance, repository, tag string) {
	h.replace(at, repository, tag)
	err := at.Storage.DeleteTag(h.t.Context(), repository, tag)
	if err != nil && !errors.Is(err, oci.ErrManifestUnknown) && !errors.Is(err, oci.ErrNameUnknown) {
		h.t.Fatal(err)
	}
	if err == nil {
		h.set(at, repository, tag, "")
	}
}

// push pushes a new image.
func (h *history) push(at *instance, repository, tag string, size int) {
	h.n++
	h.replace(at, repository, tag)
	h.set(at, repository, tag, at.push(repository, fmt.Sprint(h.n), tag, 100, size))
}

// replace records which image a client replaces: an image need not go further up than the registry at which
// a later client replaced it.
func (h *history) replace(at *instance, repository, tag string) {
	synctest.Wait() // so that nothing else changes the tag before the client does
	h.replaced[repository+" "+string(at.tags(repository)[tag])] = true
}

// wait lets time pass, and checks every few milliseconds that sites serve what they have not sent.
func (h *history) wait(milliseconds int) {
	const step = 20
	for ; milliseconds > 0; milliseconds -= step {
		time.Sleep(min(step, time.Duration(milliseconds)) * time.Millisecond)
		h.checkUnsent()
	}
}

// waitFor waits until done returns true, for ten seconds at most.
func (h *history) waitFor(done func() bool) {
	for range 200 {
		if done() {
			return
		}
		h.wait(50)
	}
}

// checkUnsent fails if a site does not serve the last change of its clients to a tag, although its parent
// has not answered to that change.
func (h *history) checkUnsent() {
	for _, s := range h.all[1:] {
		err := s.DB.View(h.t.Context(), func(tx *metadb.Tx) error {
			rows, err := tx.Outbox(metadb.Unsent, 0, 1000)
			for _, row := range rows {
				if row.Tag == "" || err != nil {
					continue
				}
				var tag metadb.Tag
				if tag, err = tx.Tag(row.Repository, row.Tag); errors.Is(err, metadb.ErrNotFound) {
					err = nil
				}
				if string(tag.Digest) != row.Digest {
					h.t.Errorf("%s serves %q for %s:%s, whose change to %q is not sent", s.name, tag.Digest,
						row.Repository, row.Tag, row.Digest)
				}
			}
			return err
		})
		if err != nil {
			h.t.Fatal(err)
		}
	}
}

// log describes the history of a failed test, at the time of the bubble.
func (h *history) log(format string, args ...any) {
	h.t.Logf("%s "+format, append([]any{time.Now().UTC().Format("05.000")}, args...)...)
}

func (h *history) set(at *instance, repository, tag string, d digest.Digest) {
	h.log("%q has %s:%s as %q", at.name, repository, tag, d)
	h.last[at.name+" "+repository+":"+tag] = d
}

// retag gives the image of another tag a tag, as a client that pushes no blob does.
func (h *history) retag(at *instance, repository, tag string) {
	for name, d := range at.tags(repository) {
		if name == tag {
			continue
		}
		m, err := at.Storage.DescribeManifest(h.t.Context(), repository, d)
		if err != nil {
			h.t.Fatal(err)
		}
		put := storage.Put{Repository: repository, MediaType: m.MediaType, Payload: m.Payload, Tags: []string{tag}}
		h.replace(at, repository, tag)
		if _, err := at.Storage.PutManifest(h.t.Context(), put); err != nil {
			h.t.Fatal(err)
		}
		h.set(at, repository, tag, d)
		return
	}
}

// tags returns what a registry has in a repository.
func (s *instance) tags(repository string) map[string]digest.Digest {
	s.T.Helper()
	all := map[string]digest.Digest{}
	err := s.DB.View(s.T.Context(), func(tx *metadb.Tx) error {
		rows, err := tx.Tags(repository, metadb.TagOrder{}, metadb.NoLimit, 0)
		for _, row := range rows {
			all[row.Name] = row.Digest
		}
		return err
	})
	if err != nil {
		s.T.Fatal(err)
	}
	return all
}

// agree reports whether nothing is left to send or to fetch, and every registry has the root's tags.
func (h *history) agree() bool {
	h.checkUnsent()
	for _, s := range h.all[1:] {
		st := s.agent.Status()
		if s.outboxRows() > 0 || st.ItemsPending+st.ItemsFailed > 0 {
			return false
		}
		for _, repository := range []string{"app/a", "app/b"} {
			if !maps.Equal(s.tags(repository), h.all[0].tags(repository)) {
				return false
			}
		}
	}
	return true
}

// ownTag begins the name of a tag that only one registry changes.
const ownTag = "own-"

// check fails unless the last image of each client is at the root. A tag that only one registry changed
// must be there as that registry has left it.
func (h *history) check() {
	for key, d := range h.last {
		name, item, _ := strings.Cut(key, " ")
		repository, tag, _ := strings.Cut(item, ":")
		if tag == ownTag+name && !h.all[0].serves(repository, tag, d) {
			t := h.all[0].tags(repository)
			h.t.Errorf("only %q changed %s:%s, last to %q; the root has %q", name, repository, tag, d, t[tag])
		}
		if d == "" || name == "" || h.replaced[repository+" "+string(d)] {
			continue
		}
		has, err := h.all[0].Storage.HasManifest(h.t.Context(), repository, d)
		if err != nil {
			h.t.Fatal(err)
		}
		if !has {
			h.t.Errorf("%s of %s:%s, pushed at %s, never reached the root", d, repository, tag, name)
		}
	}
}
