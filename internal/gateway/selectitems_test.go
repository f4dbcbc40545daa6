package gateway_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/storage/storagetest"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// A repository is app/a of a fixture. Its manifests have names.
type repository struct {
	*fixture
	t       *testing.T
	digests map[string]digest.Digest
}

func newRepository(t *testing.T) *repository {
	return &repository{newFixture(t, dbtest.SQLite(t)), t, map[string]digest.Digest{}}
}

// image pushes an image, a second later than the push before.
func (r *repository) image(name string, tags ...string) {
	r.later.Add(1)
	r.digests[name] = r.fixture.image("app/a", name, tags...)
}

// index pushes an index of manifests. Manifests named like an architecture are for
// that. The index does not hold leftOut.
func (r *repository) index(name, children, leftOut string, tags ...string) {
	r.later.Add(1)
	index := storagetest.Index()
	for _, child := range strings.Fields(children) {
		d := storagetest.Reference(r.digests[child])
		if child == "amd64" || child == "arm64" {
			d = storagetest.ReferenceFor("linux/"+child, d.Digest)
		}
		index.Manifests = append(index.Manifests, d)
	}
	put := storage.Put{Repository: "app/a", Tags: tags, Payload: index.Payload()}
	for _, child := range strings.Fields(leftOut) {
		put.Omitted = append(put.Omitted, r.digests[child])
	}
	m, err := r.PutManifest(r.t.Context(), put)
	if err != nil {
		r.t.Fatal(err)
	}
	r.digests[name] = m.Digest
}

// referrer pushes a referrer of a manifest, which need not be present.
func (r *repository) referrer(name, subject string, tags ...string) {
	r.later.Add(1)
	d := cmp.Or(r.digests[subject], digest.FromString(subject))
	r.digests[name] = r.fixture.referrer("app/a", name, d)
	for _, tag := range tags {
		r.tag(tag, name)
	}
}

// sign pushes a signature of a manifest, as cosign does: "sig of NAME".
func (r *repository) sign(name string) { r.image("sig of "+name, signature(r.digests[name])) }

func (r *repository) tag(tag, name string) {
	if err := r.SetTag(r.t.Context(), "app/a", tag, r.digests[name]); err != nil {
		r.t.Fatal(err)
	}
}

// untag removes a tag, and remove a manifest.
func (r *repository) untag(tag string) { r.check(r.DeleteTag(r.t.Context(), "app/a", tag)) }
func (r *repository) remove(name string) {
	r.check(r.DeleteManifest(r.t.Context(), "app/a", r.digests[name]))
}

func (r *repository) check(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// listed returns a listing as a text: a tag is its name or, for a signature, "sig
// of NAME", and an untagged manifest is @NAME. A ! marks an index with omitted
// children.
func (r *repository) listed(of wire.Spec) string {
	r.t.Helper()
	names := map[digest.Digest]string{}
	for name, d := range r.digests {
		names[d] = name
	}
	var words []string
	for _, i := range r.list(r.t, "app/a", of) {
		word := i.Tag
		if subject, belongs := subscription.AttachedTo(i.Tag); belongs {
			word = "sig-of-" + strings.ReplaceAll(names[subject], " ", "-")
		}
		if i.Tag == "" {
			word = "@" + names[i.Digest]
		}
		if i.Part != "" {
			word += "!"
		}
		words = append(words, word)
	}
	slices.Sort(words)
	return strings.Join(words, " ")
}

// list returns the listing of a repository for a connected registry.
func (f *fixture) list(t testing.TB, repository string, of wire.Spec) (items []gateway.Item) {
	t.Helper()
	filter, err := gateway.SubscriptionOf(wire.ConnectedRegistry{Spec: of}).Filter()
	if err != nil {
		t.Fatal(err)
	}
	err = f.View(t.Context(), func(v *storage.View) (err error) {
		items, err = gateway.SelectItems(v, repository, filter)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return items
}

func TestListingHasTheItemsOfTheSubscription(t *testing.T) {
	everything := wire.Spec{}
	tags := func(filters ...string) wire.Spec { return wire.Spec{TagFilters: filters} }
	amd64 := wire.Spec{Platforms: []string{"linux/amd64"}}
	for name, test := range map[string]struct {
		of    wire.Spec
		state func(r *repository)
		want  string
	}{
		"nothing of a repository that is not there": {everything, func(*repository) {}, ""},
		"every tag and every untagged manifest": {everything, func(r *repository) {
			r.image("1", "v1", "v2")
			r.image("untagged")
		}, "@untagged v1 v2"},
		"no child of an index": {everything, func(r *repository) {
			r.image("child")
			r.index("index", "child", "", "v1")
		}, "v1"},
		"no manifest that a tag has left": {everything, func(r *repository) {
			r.image("1", "v1")
			r.image("2", "v1")
		}, "v1"},
		"no manifest whose index was deleted": {everything, func(r *repository) {
			r.image("child")
			r.index("index", "child", "")
			r.remove("index")
		}, ""},
		"referrers of a tag, a child and a referrer": {everything, func(r *repository) {
			r.image("child")
			r.index("index", "child", "", "v1")
			r.referrer("sbom", "child")
			r.referrer("of the sbom", "sbom")
			r.referrer("of the index", "index")
		}, "@of the index @of the sbom @sbom v1"},
		"no referrer of a manifest that a tag has left": {everything, func(r *repository) {
			r.image("1", "v1")
			r.referrer("sbom", "1")
			r.image("2", "v1")
		}, "v1"},
		"no referrer of a manifest that was deleted": {everything, func(r *repository) {
			r.image("1", "v1")
			r.referrer("sbom", "1")
			r.remove("1")
		}, ""},
		"a referrer whose subject never came": {everything, func(r *repository) { r.referrer("sbom", "nothing") },
			"@sbom"},
		"a referrer with a tag twice": {everything,
			func(r *repository) { r.image("1", "v1"); r.referrer("sbom", "1", "sbom") }, "@sbom sbom v1"},
		"signatures, among every tag": {everything, func(r *repository) {
			r.image("1")
			r.sign("1")
			r.remove("1")
		}, "sig-of-1"},
		"an index that is held in part": {everything, func(r *repository) {
			r.image("amd64")
			r.image("arm64")
			r.index("index", "amd64 arm64", "arm64", "v1")
		}, "@arm64 v1!"},
		"a part within an index": {everything, func(r *repository) {
			r.image("amd64")
			r.image("arm64")
			r.index("inner", "amd64 arm64", "arm64")
			r.index("outer", "inner", "", "v1")
			r.untag("v1")
			r.remove("outer")
			r.index("outer", "inner", "", "v2")
		}, "@arm64 v2!"},

		"only tags that match": {tags("v1.*", ">=3"), func(r *repository) {
			r.image("1", "v1.0", "latest")
			r.image("2", "v2.0")
			r.image("3", "3.1", "v3.2-rc1")
			r.image("untagged")
		}, "3.1 v1.0"},
		"only the newest tags": {wire.Spec{KeepLast: 2}, func(r *repository) {
			r.image("3", "v3")
			r.image("1", "v1")
			r.image("2", "v2")
		}, "v1 v2"},
		"only the newest tags that match": {wire.Spec{KeepLast: 1, TagFilters: []string{"v*"}}, func(r *repository) {
			r.image("1", "v1")
			r.image("2", "v2")
			r.image("3", "other")
		}, "v2"},
		"a tag that moved as a new one": {wire.Spec{KeepLast: 1}, func(r *repository) {
			r.image("1", "v1")
			r.image("2", "v2")
			r.image("3", "v1")
		}, "v1"},
		"the next tag where the newest was deleted": {wire.Spec{KeepLast: 1}, func(r *repository) {
			r.image("1", "v1")
			r.image("2", "v2")
			r.untag("v2")
		}, "v1"},
		"signatures beside the newest tags": {wire.Spec{KeepLast: 1}, func(r *repository) {
			r.image("1", "v1")
			r.sign("1")
			r.image("2", "v2")
			r.sign("2")
		}, "sig-of-2 v2"},
		"no signature of what no tag selects": {tags("release"), func(r *repository) {
			r.image("1", "edge")
			r.sign("1")
		}, ""},
		"the signature of a release that was signed before": {tags("release"), func(r *repository) {
			r.image("1", "edge")
			r.sign("1")
			r.image("2", "edge2")
			r.sign("2")
			r.tag("release", "1")
		}, "release sig-of-1"},
		"signatures of all that a tag leads to": {tags("v*"), func(r *repository) {
			r.image("child")
			r.index("index", "child", "", "v1")
			r.referrer("sbom", "child")
			for _, name := range []string{"child", "index", "sbom", "sig of child"} {
				r.sign(name)
			}
		}, "@sbom sig-of-child sig-of-index sig-of-sbom sig-of-sig-of-child v1"},
		"no signature of what a tag has left": {tags("v*"), func(r *repository) {
			r.image("1", "v1")
			r.sign("1")
			r.referrer("sbom", "1")
			r.image("2", "v1")
		}, "v1"},
		"no signature of a manifest that was deleted": {tags("v*"), func(r *repository) {
			r.image("1", "v1")
			r.sign("1")
			r.remove("1")
		}, ""},
		"no untagged manifest beside filters": {tags("*"), func(r *repository) {
			r.image("1", "v1")
			r.image("untagged")
			r.referrer("of nothing", "nothing")
			r.referrer("sbom", "1")
		}, "@sbom v1"},

		"of an index a part, for platforms": {amd64, func(r *repository) {
			r.image("amd64")
			r.image("arm64")
			r.index("index", "amd64 arm64", "", "v1")
			r.index("only", "amd64", "", "v2")
			r.image("arm64", "v3") // a tag says that it is wanted
		}, "v1! v2 v3"},
		"referrers of what the platforms keep": {amd64, func(r *repository) {
			r.image("amd64")
			r.image("arm64")
			r.index("index", "amd64 arm64", "", "v1")
			r.referrer("sbom", "amd64")
			r.referrer("of the sbom", "sbom")
			r.referrer("of all", "index")
			r.referrer("of another", "arm64")
			r.referrer("of nothing", "nothing")
			r.image("untagged")
		}, "@of all @of the sbom @sbom v1!"},
		"signatures of what the platforms keep": {wire.Spec{Platforms: amd64.Platforms, TagFilters: []string{"v*"}},
			func(r *repository) {
				r.image("amd64")
				r.image("arm64")
				r.index("index", "amd64 arm64", "", "v1")
				r.sign("amd64")
				r.sign("arm64")
			}, "sig-of-amd64 v1!"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepository(t)
			test.state(r)
			if got := r.listed(test.of); got != test.want {
				t.Errorf("listing is %q, want %q", got, test.want)
			}
		})
	}
}

func TestTagsAttachedToAManifestAreListedOnce(t *testing.T) {
	r := newRepository(t)
	r.image("1", "edge")
	for i := range 20 { // each also leads to all others
		r.tag(strings.TrimSuffix(signature(r.digests["1"]), "sig")+strings.Repeat("s", i+1), "1")
	}
	of := wire.Spec{TagFilters: []string{"v*"}}
	if got := r.listed(of); got != "" {
		t.Errorf("%s is listed, although nothing leads to it", got)
	}
	r.tag("v1", "1")
	if got := r.list(t, "app/a", of); len(got) != 21 {
		t.Errorf("%d items are listed, want v1 and 20 tags that belong to it", len(got))
	}
}

func TestPartIdentifiesTheOmittedChildren(t *testing.T) {
	r := newRepository(t)
	r.image("amd64")
	r.image("arm64")
	parts := map[string]string{}
	note := func(name string, of wire.Spec) {
		for _, i := range r.list(t, "app/a", of) {
			if i.Tag == "v1" {
				parts[name] = i.Part
			}
		}
	}
	r.index("index", "amd64 arm64", "", "v1")
	note("whole", wire.Spec{})
	note("for amd64", wire.Spec{Platforms: []string{"linux/amd64"}})
	note("for arm64", wire.Spec{Platforms: []string{"linux/arm64"}})
	r.index("index", "amd64 arm64", "arm64")
	note("without arm64", wire.Spec{})
	note("neither", wire.Spec{Platforms: []string{"linux/arm64"}})
	if parts["whole"] != "" || parts["for amd64"] == "" || parts["for amd64"] != parts["without arm64"] {
		t.Errorf("parts are %v", parts)
	}
	if parts["for arm64"] == parts["for amd64"] || parts["neither"] == parts["for arm64"] ||
		parts["neither"] == parts["for amd64"] {
		t.Errorf("different parts have the same text: %v", parts)
	}
}

// scopes are subscriptions that select different items.
var scopes = []wire.Spec{
	{}, {TagFilters: []string{"x*"}}, {KeepLast: 1}, {TagFilters: []string{"x*"}, KeepLast: 3},
	{Platforms: []string{"linux/amd64"}}, {Platforms: []string{"linux/arm64"}, TagFilters: []string{"x*"}},
}

func TestListingMatchesTheRulesForEachItem(t *testing.T) {
	for seed := range listingSeeds(t) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, dbtest.SQLite(t))
			h := newHistory(f, rand.New(rand.NewPCG(seed, 1)), "app/a")
			for range 6 {
				for range 5 {
					h.step(t)
				}
				for _, of := range scopes {
					want := f.obvious(t, "app/a", of)
					if diff := gocmp.Diff(want, f.list(t, "app/a", of)); diff != "" {
						t.Fatalf("%+v: -rules +List:\n%s", of, diff)
					}
				}
			}
		})
	}
}

// obvious returns the result of [gateway.SelectItems], computed slowly: for each item, it
// applies the rules.
func (f *fixture) obvious(t *testing.T, repository string, of wire.Spec) (all []gateway.Item) {
	t.Helper()
	filter, err := gateway.SubscriptionOf(wire.ConnectedRegistry{Spec: of}).Filter()
	if err != nil {
		t.Fatal(err)
	}
	r := &rules{filter: filter, omitted: map[[2]digest.Digest]bool{}}
	err = f.View(t.Context(), func(v *storage.View) (err error) {
		if r.tags, err = v.Tags(repository); err != nil {
			return err
		}
		if r.manifests, err = v.Manifests(repository); err != nil {
			return err
		}
		if r.indexes, err = v.Indexes(repository); err != nil {
			return err
		}
		for index, children := range r.indexes {
			m, err := v.Manifest(repository, index)
			if err != nil {
				return err
			}
			parsed, err := oci.ParseManifest(m.MediaType, m.Payload)
			if err != nil {
				return err
			}
			for _, child := range parsed.Manifests {
				if slices.Contains(children.Omitted, child.Digest) ||
					filter.Platforms.Omitted(parsed.Manifests)[child.Digest] {
					r.omitted[[2]digest.Digest{index, child.Digest}] = true
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	listed := f.list(t, repository, of)
	add := func(tag string, d digest.Digest, locks storage.Locks, seq int64) {
		item := gateway.Item{Item: wire.Item{Tag: tag, Digest: d, Locks: int(locks)}, Seq: max(seq, r.lastChange(d, 0))}
		for _, l := range listed { // List may choose the text of a part
			if l.Name() == item.Name() && (l.Part != "") == r.partial(d, 0) {
				item.Part = l.Part
			}
		}
		all = append(all, item)
	}
	for _, tag := range r.tags {
		if r.tagSelected(tag, map[digest.Digest]bool{}) {
			add(tag.Name, tag.Digest, tag.Locks, tag.Seq)
		}
	}
	for _, m := range r.manifests {
		if m.Subject != "" && r.reachable(m.Subject, map[digest.Digest]bool{}) || r.neverReferenced(m) ||
			m.Locks != 0 && r.reachable(m.Digest, map[digest.Digest]bool{}) {
			add("", m.Digest, m.Locks, m.Seq)
		}
	}
	slices.SortFunc(all, func(a, b gateway.Item) int { return strings.Compare(a.Name(), b.Name()) })
	return all
}

// rules select items of a repository, one by one.
type rules struct {
	filter    subscription.Filter
	tags      []storage.Tag
	manifests []storage.Manifest
	indexes   map[digest.Digest]storage.IndexChildren
	omitted   map[[2]digest.Digest]bool // an index and its child
}

// tagSelected reports whether a tag is selected; seen are the manifests on the way here.
func (r *rules) tagSelected(t storage.Tag, seen map[digest.Digest]bool) bool {
	if r.filter.Tags.All() {
		return true
	}
	if subject, belongs := subscription.AttachedTo(t.Name); belongs {
		return r.reachable(subject, seen)
	}
	if !r.filter.Tags.Matches(t.Name) {
		return false
	}
	newer := 0
	for _, other := range r.tags {
		_, belongs := subscription.AttachedTo(other.Name)
		later := other.UpdatedAt.After(t.UpdatedAt) || other.UpdatedAt.Equal(t.UpdatedAt) && other.Name > t.Name
		if !belongs && r.filter.Tags.Matches(other.Name) && later {
			newer++
		}
	}
	return r.filter.Tags.KeepLast() == 0 || newer < r.filter.Tags.KeepLast()
}

func (r *rules) neverReferenced(m storage.Manifest) bool {
	here := slices.ContainsFunc(r.manifests, func(other storage.Manifest) bool { return other.Digest == m.Subject })
	return r.filter.Tags.All() && r.filter.Platforms.All() && !m.WasReferenced && !here
}

// reachable reports whether a selected item leads to a manifest.
func (r *rules) reachable(d digest.Digest, seen map[digest.Digest]bool) bool {
	if seen[d] {
		return false
	}
	seen[d] = true
	for _, t := range r.tags {
		if t.Digest == d && r.tagSelected(t, seen) {
			return true
		}
	}
	for _, m := range r.manifests {
		if m.Digest == d && (r.neverReferenced(m) || m.Subject != "" && r.reachable(m.Subject, seen)) {
			return true
		}
	}
	for index, children := range r.indexes {
		if slices.Contains(children.Held, d) && !r.omitted[[2]digest.Digest{index, d}] && r.reachable(index, seen) {
			return true
		}
	}
	return false
}

// lastChange returns the number of the last change to an index, or to one within it.
func (r *rules) lastChange(d digest.Digest, depth int) (seq int64) {
	children, isIndex := r.indexes[d]
	if !isIndex || depth == 10 {
		return 0
	}
	for _, m := range r.manifests {
		if m.Digest == d {
			seq = m.Seq
		}
	}
	for _, child := range children.Held {
		if !r.omitted[[2]digest.Digest{d, child}] {
			seq = max(seq, r.lastChange(child, depth+1))
		}
	}
	return seq
}

// partial reports whether any child below an index is omitted.
func (r *rules) partial(d digest.Digest, depth int) bool {
	for pair := range r.omitted {
		if pair[0] == d {
			return true
		}
	}
	return depth < 10 &&
		slices.ContainsFunc(r.indexes[d].Held, func(child digest.Digest) bool { return r.partial(child, depth+1) })
}
