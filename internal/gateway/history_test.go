package gateway_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/replication"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
)

// A history changes repositories at random.
type history struct {
	*fixture
	random       *rand.Rand
	repositories []string
	pushed       map[string][]digest.Digest
	coming       map[string][]storagetest.Manifest // that are referenced already, and not pushed yet
	steps        int
}

func newHistory(f *fixture, random *rand.Rand, repositories ...string) *history {
	return &history{
		fixture: f, random: random, repositories: repositories,
		pushed: map[string][]digest.Digest{}, coming: map[string][]storagetest.Manifest{},
	}
}

// step makes one random change. It may find nothing to remove or to refer to.
func (h *history) step(t *testing.T) {
	t.Helper()
	h.steps++
	h.later.Add(h.random.Int64N(3))
	ctx, repository := t.Context(), h.repositories[h.random.IntN(len(h.repositories))]
	tag := []string{"x0", "x1", "x2", "x3", "y0", "y1"}[h.random.IntN(6)]
	some := digest.FromString("none")
	if pushed := h.pushed[repository]; len(pushed) > 0 {
		some = pushed[h.random.IntN(len(pushed))]
	}
	var tags []string
	if h.random.IntN(2) == 0 {
		tags = []string{tag}
	}
	seed := fmt.Sprint(h.steps)
	switch h.random.IntN(24) {
	case 0:
		_ = h.DeleteTag(ctx, repository, tag)
	case 1:
		_ = h.DeleteTag(ctx, repository, signature(some))
	case 2, 3:
		_ = h.DeleteManifest(ctx, repository, some)
	case 4:
		h.put(t, repository, h.image(seed, ""), nil, signature(some))
	case 5, 6:
		_ = h.SetTag(ctx, repository, tag, some)
	case 7, 8, 9:
		h.putIndex(t, repository, some, tags)
	case 10, 11:
		h.put(t, repository, h.image(seed, some), nil, tags...)
	case 12: // a referrer is pushed before its subject, which may be a referrer, too
		subject := h.image(seed, []digest.Digest{"", some}[h.random.IntN(2)])
		h.coming[repository] = append(h.coming[repository], subject)
		h.put(t, repository, h.image("first "+seed, digest.FromBytes(subject.Payload())), nil)
	case 13:
		if coming := h.coming[repository]; len(coming) > 0 {
			h.put(t, repository, coming[0], nil, tags...)
			h.coming[repository] = coming[1:]
		}
	case 14:
		if h.random.IntN(4) == 0 {
			_ = h.DeleteRepository(ctx, repository)
		}
	case 15, 16, 17: // some are of content that is not there
		reference := []string{"", tag, string(some)}[h.random.IntN(3)]
		_ = h.ChangeLocks(ctx, repository, reference, []storage.LockChange{
			{Set: storage.Locks(h.random.IntN(16)) & (storage.NoRead | storage.NoList)}, {Clear: 15},
			{Set: storage.NoRead},
		}[h.random.IntN(3)])
	default:
		h.put(t, repository, h.image(seed, ""), nil, tags...)
	}
}

// putIndex puts an index of one or two present manifests. The index may be present
// already, and then hold other children.
func (h *history) putIndex(t *testing.T, repository string, child digest.Digest, tags []string) {
	t.Helper()
	children := []digest.Digest{child}
	if pushed := h.pushed[repository]; len(pushed) > 0 && h.random.IntN(2) == 0 {
		children = append(children, pushed[h.random.IntN(len(pushed))])
	}
	index := storagetest.Index()
	var leftOut []digest.Digest
	for i, d := range children {
		if has, err := h.HasManifest(t.Context(), repository, d); err != nil || !has {
			return
		}
		index.Manifests = append(index.Manifests,
			storagetest.ReferenceFor([]string{"linux/amd64", "linux/arm64"}[i], d))
		if h.random.IntN(4) == 0 {
			leftOut = append(leftOut, d)
		}
	}
	h.put(t, repository, index, leftOut, tags...)
	if h.random.IntN(2) == 0 {
		h.put(t, repository, index, nil)
	}
}

func (h *history) put(t *testing.T, repository string, m storagetest.Manifest, leftOut []digest.Digest,
	tags ...string) {
	t.Helper()
	if has, err := h.hasConfig(t, repository); err != nil || !has {
		h.PushBlob(repository, []byte("{}"))
	}
	put := storage.Put{Repository: repository, Payload: m.Payload(), Tags: tags, Omitted: leftOut}
	stored, err := h.PutManifest(t.Context(), put)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(h.pushed[repository], stored.Digest) {
		h.pushed[repository] = append(h.pushed[repository], stored.Digest)
	}
}

// hasConfig reports whether the config of every payload is present.
func (h *history) hasConfig(t *testing.T, repository string) (bool, error) {
	content, _, err := h.Unlocked().OpenBlob(t.Context(), repository, digest.FromString("{}"))
	if err != nil {
		return false, nil
	}
	return true, content.Close()
}

// image returns an image without layers; its subject may be "".
func (h *history) image(seed string, subject digest.Digest) storagetest.Manifest {
	empty := oci.Descriptor{MediaType: "application/vnd.oci.empty.v1+json", Digest: digest.FromString("{}"), Size: 2}
	m := storagetest.Manifest{Config: &empty, Annotations: map[string]string{"seed": seed}}
	if subject != "" {
		m.Subject = new(storagetest.Reference(subject))
	}
	return m
}

// listingSeeds is how many random histories a test tries.
func listingSeeds(t *testing.T) uint64 {
	t.Helper()
	text := os.Getenv("LISTING_SEEDS")
	if text == "" {
		return 8
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A follower is a child that records the parent's answers, as connected registries do.
type follower struct {
	*replication.Engine
	db      *metadb.DB
	answers []replication.Answer
	relists int // how often a checksum did not match
	// corrupt changes an answer on its way; nil does not.
	corrupt func(replication.Answer) replication.Answer
}

// newFollower returns a child without any state.
func (f *fixture) newFollower(t *testing.T) *follower {
	child := storagetest.New(t, storage.Options{})
	return &follower{Engine: replication.New(replication.Options{Storage: child.Storage, DB: child.DB}), db: child.DB}
}

// follow polls until the parent has nothing more. It calls meanwhile before each
// poll.
func (f *fixture) follow(t *testing.T, c *follower, meanwhile func()) {
	t.Helper()
	for range 1000 {
		meanwhile()
		p, err := c.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := gateway.PollRequestOf(p)
		if q.Page != nil && q.Page.Seq == 0 {
			c.relists++
		}
		a := gateway.AnswerOf(f.poll(t, q))
		c.answers = append(c.answers, a)
		if c.corrupt != nil {
			a = c.corrupt(a)
		}
		if _, err := c.ApplyAnswer(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		p, err = c.Position(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if p.Current() && !a.More {
			return
		}
	}
	t.Fatal("the parent always has more")
}

// has returns the items and the locks that the child recorded.
func (c *follower) has(t *testing.T) map[string]string {
	t.Helper()
	items := map[string]string{}
	err := c.db.View(t.Context(), func(tx *metadb.Tx) error {
		rows, err := tx.SyncItems(metadb.Parent, metadb.AnySyncItem, "", "", 100_000)
		for _, row := range rows {
			locks, lockErr := tx.ParentLocks(row.Repository)
			err = errors.Join(err, lockErr)
			if row.Digest != "" {
				items[row.Repository+" "+row.Item] = fmt.Sprint(row.Digest, " ", row.Part, " ", locks[row.Item])
				items[row.Repository] = fmt.Sprint(locks[""])
			}
			for item := range locks {
				if _, listed := items[row.Repository+" "+item]; item != "" && !listed && row.Item == item {
					items[row.Repository+" "+item] = "locked, and not listed"
				}
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

// A world is a parent with a random history, and children of it.
type world struct {
	*history
}

func newWorld(t *testing.T, seed uint64) *world {
	random := rand.New(rand.NewPCG(seed, 2))
	f := newListingFixture(t, dbtest.SQLite(t), 3+random.IntN(20))
	f.activate(t)
	return &world{newHistory(f, random, "app/a", "app/b", "app/c", "secret/d")}
}

// happen makes a random change to the content or the subscription.
func (w *world) happen(t *testing.T) {
	t.Helper()
	if w.random.IntN(25) == 0 {
		w.controlPlane.set(func(p *controlPlane) { p.desired.Self.Spec = scopes[w.random.IntN(len(scopes))] })
		return
	}
	w.step(t)
}

// trim makes the feed forget removals, sometimes. No child is in the middle of an
// answer then, because the feed remembers removals for longer than an answer takes.
func (w *world) trim(t *testing.T) {
	t.Helper()
	if w.random.IntN(4) > 0 {
		return
	}
	if err := w.TrimFeed(t.Context(), time.Duration(w.random.Int64N(20))*time.Second); err != nil {
		t.Fatal(err)
	}
}

// anew returns the items of a new child.
func (w *world) anew(t *testing.T) map[string]string {
	t.Helper()
	c := w.newFollower(t)
	w.follow(t, c, func() {})
	return c.has(t)
}

// locks returns the locks of a repository.
func (w *world) locks(t *testing.T, name string) storage.Locks {
	t.Helper()
	r, err := w.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return r.Locks
}

// everything returns the items and locks that [gateway.SelectItems] returns for the children.
func (w *world) everything(t *testing.T) map[string]string {
	t.Helper()
	items := map[string]string{}
	for _, repository := range w.repositories {
		if !strings.HasPrefix(repository, "app/") {
			continue
		}
		for _, i := range w.list(t, repository, w.controlPlane.desired.Self.Spec) {
			items[repository+" "+i.Name()] = fmt.Sprint(i.Digest, " ", i.Part, " ", i.Locks)
			items[repository] = fmt.Sprint(w.locks(t, repository))
		}
	}
	return items
}

func TestFollowedChangesMatchANewListing(t *testing.T) {
	for seed := range listingSeeds(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			c := w.newFollower(t)
			for range 8 {
				for range 1 + w.random.IntN(8) {
					w.happen(t)
					w.trim(t)
				}
				w.follow(t, c, func() {
					if w.random.IntN(3) == 0 {
						w.happen(t)
					}
				})
				w.follow(t, c, func() {})
				if diff := cmp.Diff(w.everything(t), c.has(t)); diff != "" {
					t.Fatalf("after %d steps, with %+v: -List +followed:\n%s", w.steps,
						w.controlPlane.desired.Self.Spec, diff)
				}
				if diff := cmp.Diff(w.anew(t), c.has(t)); diff != "" {
					t.Fatalf("after %d steps, with %+v: -anew +followed:\n%s", w.steps,
						w.controlPlane.desired.Self.Spec, diff)
				}
			}
			if c.relists > 0 {
				t.Errorf("%d short listings have a wrong checksum", c.relists)
			}
		})
	}
}

// corrupt changes an answer: an item is lost, has another digest or is added, or a
// listing is lost or replaced by an earlier one.
func (w *world) corrupt(c *follower, a replication.Answer) replication.Answer {
	if len(a.Listings) == 0 || w.random.IntN(3) == 0 {
		return a
	}
	a.Listings = slices.Clone(a.Listings)
	at := w.random.IntN(len(a.Listings))
	l := &a.Listings[at]
	l.Items = slices.Clone(l.Items)
	switch kind := w.random.IntN(5); {
	case kind == 0 && len(l.Items) > 0:
		i := w.random.IntN(len(l.Items))
		l.Items = slices.Delete(l.Items, i, i+1)
	case kind == 1 && len(l.Items) > 0:
		l.Items[w.random.IntN(len(l.Items))].Digest = digest.FromString("corrupt")
	case kind == 2:
		l.Items = append(l.Items, replication.ListedItem{Tag: "zz", Digest: digest.FromString("corrupt")})
	case kind == 3:
		a.Listings = slices.Delete(a.Listings, at, at+1)
	default:
		*l = w.earlier(c, *l)
	}
	return a
}

// earlier returns an earlier listing of the same repository.
func (w *world) earlier(c *follower, l replication.Listing) replication.Listing {
	var known []replication.Listing
	for _, a := range c.answers {
		for _, old := range a.Listings {
			if old.Repository == l.Repository {
				known = append(known, old)
			}
		}
	}
	return known[w.random.IntN(len(known))]
}

func TestCorruptedListingsHeal(t *testing.T) {
	for seed := range listingSeeds(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			c := w.newFollower(t)
			for range 2 {
				c.corrupt = func(a replication.Answer) replication.Answer { return w.corrupt(c, a) }
				for range 4 {
					for range 1 + w.random.IntN(6) {
						w.happen(t)
						w.trim(t)
					}
					w.follow(t, c, func() {})
				}
				c.corrupt = nil
				for _, repository := range w.repositories { // with a tag that every subscription selects
					w.later.Add(1)
					w.steps++
					w.put(t, repository, w.image(fmt.Sprint(w.steps), ""), nil, fmt.Sprint("x", w.steps))
				}
				w.follow(t, c, func() {})
				if diff := cmp.Diff(w.anew(t), c.has(t)); diff != "" {
					t.Fatalf("after %d steps, with %+v: -anew +healed:\n%s", w.steps, w.controlPlane.desired.Self.Spec,
						diff)
				}
			}
		})
	}
}
