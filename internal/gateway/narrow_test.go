package gateway_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	"pgregory.net/rapid"

	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// follow asks for changes until there are none, and applies them to items.
func (f *fixture) follow(t *testing.T, cursor int64, items map[string]digest.Digest) int64 {
	t.Helper()
	for {
		a := f.poll(t, wire.PollRequest{Cursor: cursor})
		for _, c := range a.Changes {
			switch name := itemName(c.Repository, c.Tag, c.Digest); storage.ChangeKind(c.Kind) {
			case storage.TagSet, storage.ManifestAdded:
				items[name] = c.Digest
			case storage.TagRemoved, storage.ManifestRemoved:
				delete(items, name)
			}
		}
		if cursor = a.Cursor; !a.More {
			return cursor
		}
	}
}

// taken returns a snapshot's items.
func (f *fixture) taken(t *testing.T) map[string]digest.Digest {
	t.Helper()
	all := map[string]digest.Digest{}
	items, _, _ := f.everything(t)
	for _, i := range items {
		all[itemName(i.Repository, i.Tag, i.Digest)] = i.Digest
	}
	return all
}

// itemName is what items are told apart by.
func itemName(repository, tag string, d digest.Digest) string {
	if tag == "" {
		return repository + "@" + string(d)
	}
	return repository + ":" + tag
}

func (f *fixture) narrow(keepLast int, filters ...string) {
	f.plane.set(func(p *plane) { p.desired.Self.TagFilters, p.desired.Self.KeepLast = filters, keepLast })
}

func names(items map[string]digest.Digest) string {
	return strings.Join(slices.Sorted(maps.Keys(items)), " ")
}

func TestSnapshotAndChangesHaveOnlyTagsInScope(t *testing.T) {
	run(t, func(t *testing.T, f *fixture) {
		f.activate(t)
		f.image(t, "app/z", "0", "other")
		f.narrow(0, "v1.*", ">=3")
		cursor := f.follow(t, 1, map[string]digest.Digest{})
		f.image(t, "app/a", "1", "v1.0", "latest")
		f.image(t, "app/a", "2", "v2.0")
		f.image(t, "app/a", "3", "3.1", "v3.2-rc1")
		f.image(t, "app/a", "4") // without a tag
		got := map[string]digest.Digest{}
		f.follow(t, cursor, got)
		const want = "app/a:3.1 app/a:v1.0"
		if names(got) != want {
			t.Errorf("changes have %q, want %q", names(got), want)
		}
		if got := names(f.taken(t)); got != want {
			t.Errorf("snapshot has %q, want %q", got, want)
		}
	})
}

func TestSignaturesGoAlongWithWhatTheySign(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "0", "v1")
	cursor := f.follow(t, 1, map[string]digest.Digest{})
	f.narrow(0, "release")
	signed, other := f.image(t, "app/a", "1", "edge"), f.image(t, "app/a", "2", "edge2")
	f.image(t, "app/a", "sig1", signature(signed))
	f.image(t, "app/a", "sig2", signature(other))
	got := map[string]digest.Digest{}
	if cursor = f.follow(t, cursor, got); len(got) != 0 {
		t.Errorf("%s came before it was released", names(got))
	}
	f.image(t, "app/a", "1", "release")
	f.follow(t, cursor, got)
	want := "app/a:release app/a:" + signature(signed)
	if names(got) != want {
		t.Errorf("changes have %q, want %q", names(got), want)
	}
	if got := names(f.taken(t)); got != want {
		t.Errorf("snapshot has %q, want %q", got, want)
	}
}

func TestSignaturesGoAlongWithAllThatATagLeadsTo(t *testing.T) {
	for _, order := range []string{"before the tag", "after the tag"} {
		t.Run(order, func(t *testing.T) {
			f := newFixture(t, dbtest.SQLite(t))
			f.activate(t)
			f.narrow(0, "v*")
			f.image(t, "app/a", "0", "v0")
			got, cursor := map[string]digest.Digest{}, f.head(t)
			child := f.image(t, "app/a", "child")
			index := f.index(t, "app/a", []digest.Digest{child})
			sbom := f.referrer(t, "app/a", "sbom", child)
			want := []string{"app/a:v0", "app/a:v1", itemName("app/a", "", sbom)}
			sign := func() {
				ofChild := f.image(t, "app/a", "signature of the child", signature(child))
				f.image(t, "app/a", "signature of the index", signature(index))
				f.image(t, "app/a", "signature of the SBOM", signature(sbom))
				f.image(t, "app/a", "signature of a signature", signature(ofChild))
				f.image(t, "app/a", "attestation", subscription.CompanionStem(child)+".attestation") // of a signer that nobody knows
				for _, d := range []digest.Digest{child, index, sbom, ofChild} {
					want = append(want, "app/a:"+signature(d))
				}
				want = append(want, "app/a:"+subscription.CompanionStem(child)+".attestation")
			}
			if order == "before the tag" {
				sign()
				if cursor = f.follow(t, cursor, got); len(got) != 0 {
					t.Errorf("%s came before the tag", names(got))
				}
			}
			f.index(t, "app/a", []digest.Digest{child}, "v1")
			if order == "after the tag" {
				cursor = f.follow(t, cursor, got)
				sign()
			}
			f.follow(t, cursor, got)
			slices.Sort(want)
			snapshot := f.taken(t)
			if got := names(snapshot); got != strings.Join(want, " ") {
				t.Errorf("snapshot has %q, want %q", got, want)
			}
			delete(snapshot, "app/a:v0") // from before the cursor
			if diff := cmp.Diff(snapshot, got); diff != "" {
				t.Errorf("-snapshot +changes:\n%s", diff)
			}
		})
	}
}

func TestReferrersGoAlongWithWhatThePlatformsKeep(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.plane.set(func(p *plane) { p.desired.Self.Platforms = []string{"linux/amd64"} })
	amd64, arm64 := f.image(t, "app/a", "amd64"), f.image(t, "app/a", "arm64")
	child := func(d digest.Digest, arch string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1,"platform":{"os":"linux","architecture":%q}}`, oci.MediaTypeImageManifest, d, arch)
	}
	index := f.push(t, "app/a", fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s,%s]}`, oci.MediaTypeImageIndex, child(amd64, "amd64"), child(arm64, "arm64")), "v1")
	cursor := f.head(t)
	sbom := f.referrer(t, "app/a", "sbom", amd64)
	want := []digest.Digest{sbom, f.referrer(t, "app/a", "signature", sbom), f.referrer(t, "app/a", "of all", index)}
	f.referrer(t, "app/a", "sbom of another platform", arm64)
	f.referrer(t, "app/a", "of what is not there", digest.FromString("nothing"))
	f.image(t, "app/a", "untagged")
	var got []digest.Digest
	for _, c := range f.poll(t, wire.PollRequest{Cursor: cursor}).Changes {
		got = append(got, c.Digest)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestSignaturesLeaveWithWhatTheySign(t *testing.T) {
	for name, test := range map[string]struct {
		keepLast int
		leave    func(t *testing.T, f *fixture, index digest.Digest)
	}{
		"the tag moved": {0, func(t *testing.T, f *fixture, _ digest.Digest) { f.image(t, "app/a", "2", "v1") }},
		"the tag moved twice": {0, func(t *testing.T, f *fixture, _ digest.Digest) {
			f.image(t, "app/a", "2", "v1")
			f.image(t, "app/a", "3", "v1")
		}},
		"the tag went":      {0, func(t *testing.T, f *fixture, _ digest.Digest) { f.DeleteTag(t.Context(), "app/a", "v1") }},
		"the manifest went": {0, func(t *testing.T, f *fixture, d digest.Digest) { f.DeleteManifest(t.Context(), "app/a", d) }},
		"a newer tag came":  {1, func(t *testing.T, f *fixture, _ digest.Digest) { f.image(t, "app/a", "2", "v2") }},
		"a newer tag came first": {1, func(t *testing.T, f *fixture, d digest.Digest) {
			f.image(t, "app/a", "2", "v2")
			f.DeleteTag(t.Context(), "app/a", "v1")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, dbtest.SQLite(t))
			f.activate(t)
			f.narrow(test.keepLast, "v*")
			f.image(t, "app/a", "0", "other")
			got, cursor := map[string]digest.Digest{}, f.head(t)
			child := f.image(t, "app/a", "1")
			index := f.index(t, "app/a", []digest.Digest{child}, "v1", "beta")
			f.image(t, "app/a", "of the index", signature(index))
			f.image(t, "app/a", "of the child", signature(child))
			if cursor = f.follow(t, cursor, got); len(got) != 3 {
				t.Fatalf("%s came, want a tag and two signatures", names(got))
			}
			test.leave(t, f, index)
			f.follow(t, cursor, got)
			if diff := cmp.Diff(f.taken(t), got); diff != "" || len(got) > 1 {
				t.Errorf("-snapshot +followed:\n%s", diff)
			}
		})
	}
}

func TestSignaturesInACircleAreThere(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.narrow(0, "v*")
	f.image(t, "app/a", "0", "v0")
	got, cursor := map[string]digest.Digest{}, f.head(t)
	d := f.image(t, "app/a", "1")
	for i := range 20 { // of which any order of steps is a way
		if err := f.SetTag(t.Context(), "app/a", subscription.CompanionStem(d)+"."+strings.Repeat("s", i+1), d); err != nil {
			t.Fatal(err)
		}
	}
	if cursor = f.follow(t, cursor, got); len(got) != 0 {
		t.Errorf("%d tags came that nothing leads to", len(got))
	}
	f.image(t, "app/a", "1", "v1")
	if f.follow(t, cursor, got); len(got) != 21 {
		t.Errorf("%d tags came, want v1 and 20 that belong to it", len(got))
	}
}

func TestSignaturesAreNotCountedAmongTheNewestFew(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.narrow(2)
	f.image(t, "app/a", "0", "v0")
	got, cursor := map[string]digest.Digest{}, f.head(t)
	want := []string{"app/a:v1", "app/a:v2"}
	for _, tag := range []string{"v1", "v2"} {
		d := f.image(t, "app/a", tag, tag)
		f.image(t, "app/a", "signature of "+tag, signature(d))
		want = append(want, "app/a:"+signature(d))
	}
	slices.Sort(want)
	f.follow(t, cursor, got)
	if names(got) != strings.Join(want, " ") {
		t.Errorf("changes have %q, want %q", names(got), want)
	}
	if got := names(f.taken(t)); got != strings.Join(want, " ") {
		t.Errorf("snapshot has %q, want %q", got, want)
	}
}

func TestWhoKeepsTheNewestFewAndIsFarBehindTakesASnapshot(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/a", "0", "v0")
	cursor := f.head(t)
	tags := make([]string, 1000)
	for i := range tags {
		tags[i] = fmt.Sprint("v", i+1)
	}
	f.image(t, "app/a", "1", tags...) // with the manifest, one more than are read at a time
	for name, test := range map[string]struct {
		keepLast int
		cursor   int64
		want     bool
	}{
		"one too many":        {2, cursor, true},
		"no more than enough": {2, cursor + 1, false},
		"keeps all":           {0, cursor, false},
	} {
		f.narrow(test.keepLast, "v*")
		if a := f.poll(t, wire.PollRequest{Cursor: test.cursor}); a.TakeSnapshot != test.want || a.TakeSnapshot == (len(a.Changes) > 0) {
			t.Errorf("%s: snapshot = %v, %d changes; want %v", name, a.TakeSnapshot, len(a.Changes), test.want)
		}
	}
}

func TestWhoseChangesTakeTooMuchAlongTakesASnapshot(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	few, many := f.image(t, "app/a", "1", "few"), f.image(t, "app/a", "2", "many")
	for subject, n := range map[digest.Digest]int{few: 10_000, many: 10_001} {
		err := f.db.Update(t.Context(), func(tx *metadb.Tx) error {
			for i := range n {
				m := metadb.Manifest{Repository: "app/a", Digest: string(digest.FromString(fmt.Sprint(subject, i))), Subject: string(subject), Annotations: "{}", Payload: []byte("{}")}
				if _, err := tx.PutManifest(m, nil); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tag := range []string{"few", "many"} {
		cursor := f.head(t)
		f.image(t, "app/a", "3", tag)
		if a := f.poll(t, wire.PollRequest{Cursor: cursor}); a.TakeSnapshot != (tag == "many") || a.TakeSnapshot == (len(a.Changes) > 10_000) {
			t.Errorf("%s: snapshot = %v, %d changes", tag, a.TakeSnapshot, len(a.Changes))
		}
	}
}

// What is for a child is the same whether it was told of every change, or took
// a snapshot, also one while whose pages were read things changed.
func TestWhoFollowsAScopeHasWhatASnapshotHas(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	f.image(t, "app/first", "0") // a cursor of 0 is none
	history := 0
	rapid.Check(t, func(r *rapid.T) {
		history++ // each has its own repository
		h := &changes{fixture: f, repository: fmt.Sprint("app/", history)}
		f.plane.set(func(p *plane) {
			p.actions = shipActions(h.repository)
			p.desired.Self.Spec = rapid.SampledFrom([]wire.Spec{
				{}, {TagFilters: []string{"x*"}}, {KeepLast: 1}, {TagFilters: []string{"x*"}, KeepLast: 3}, {Platforms: []string{"linux/amd64"}},
			}).Draw(r, "scope")
		})
		items, cursor := map[string]digest.Digest{}, f.head(t)
		for range rapid.IntRange(1, 30).Draw(r, "steps") {
			switch rapid.IntRange(0, 15).Draw(r, "the child") {
			case 0, 1, 2:
				cursor = f.follow(t, cursor, items)
			case 3:
				cursor = f.head(t)
				items = f.taken(t)
				h.step(t, r)
				early := rapid.Bool().Draw(r, "early")
				maps.DeleteFunc(items, func(name string, _ digest.Digest) bool { return strings.Contains(name, "@") || !early })
				for name, d := range f.taken(t) {
					if !early || strings.Contains(name, "@") { // tags are on the first pages
						items[name] = d
					}
				}
			default:
				h.step(t, r)
			}
		}
		f.follow(t, cursor, items)
		if diff := cmp.Diff(f.taken(t), items); diff != "" {
			r.Fatalf("-snapshot +followed:\n%s", diff)
		}
	})
}

// changes are what happens to a repository at random.
type changes struct {
	*fixture
	repository string
	pushed     []digest.Digest
	coming     []string // payloads of manifests that others refer to already
}

// step changes something. What it is to remove, or to lead to, may not be there.
func (h *changes) step(t *testing.T, r *rapid.T) {
	ctx, tag := t.Context(), rapid.SampledFrom([]string{"x0", "x1", "x2", "x3", "y0"}).Draw(r, "tag")
	some := digest.FromString("none")
	if len(h.pushed) > 0 {
		some = rapid.SampledFrom(h.pushed).Draw(r, "manifest")
	}
	var tags []string
	if rapid.Bool().Draw(r, "tagged") {
		tags = []string{tag}
	}
	seed := fmt.Sprint(len(h.pushed))
	switch rapid.IntRange(0, 14).Draw(r, "step") {
	case 0:
		_ = h.DeleteTag(ctx, h.repository, tag)
	case 1:
		_ = h.DeleteTag(ctx, h.repository, signature(some))
	case 2, 3:
		_ = h.DeleteManifest(ctx, h.repository, some)
	case 4:
		h.put(t, h.payload(seed, ""), signature(some))
	case 5, 6:
		_ = h.SetTag(ctx, h.repository, tag, some)
	case 7, 8:
		if has, _ := h.HasManifest(ctx, h.repository, some); has {
			h.put(t, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":1,"platform":{"os":"linux","architecture":%q}}]}`,
				oci.MediaTypeImageIndex, oci.MediaTypeImageManifest, some, rapid.SampledFrom([]string{"amd64", "arm64"}).Draw(r, "architecture")), tags...)
		}
	case 9, 10:
		h.put(t, h.payload(seed, some), tags...)
	case 11: // a referrer before its subject, which may be one, too
		subject := h.payload(seed, rapid.SampledFrom([]digest.Digest{"", some}).Draw(r, "subject"))
		h.coming = append(h.coming, subject)
		h.put(t, h.payload("first "+seed, digest.FromString(subject)))
	case 12:
		if len(h.coming) > 0 {
			h.put(t, h.coming[0], tags...)
			h.coming = h.coming[1:]
		}
	default:
		h.put(t, h.payload(seed, ""), tags...)
	}
}

func (h *changes) put(t *testing.T, payload string, tags ...string) {
	t.Helper()
	h.blob(t, h.repository, []byte("{}"))
	h.pushed = append(h.pushed, h.push(t, h.repository, payload, tags...))
}

// payload is that of an image without layers; its subject may be "".
func (h *changes) payload(seed string, subject digest.Digest) string {
	refers := ""
	if subject != "" {
		refers = fmt.Sprintf(`,"subject":{"mediaType":%q,"digest":%q,"size":1}`, oci.MediaTypeImageManifest, subject)
	}
	return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"annotations":{"seed":%q}%s}`,
		oci.MediaTypeImageManifest, digest.FromString("{}"), seed, refers)
}
