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

	"ferry/internal/gateway"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/oci"
	"ferry/internal/scope"
)

// follow asks for changes until there are none, and applies them to tags.
func (f *fixture) follow(t *testing.T, cursor int64, tags map[string]digest.Digest) int64 {
	t.Helper()
	for {
		a := f.poll(t, gateway.PollRequest{Cursor: cursor})
		for _, c := range a.Changes {
			switch c.Kind {
			case "tag-set":
				tags[c.Repository+":"+c.Tag] = c.Digest
			case "tag-removed":
				delete(tags, c.Repository+":"+c.Tag)
			}
		}
		if cursor = a.Cursor; !a.More {
			return cursor
		}
	}
}

// taken returns a snapshot's tags.
func (f *fixture) taken(t *testing.T) map[string]digest.Digest {
	t.Helper()
	tags := map[string]digest.Digest{}
	items, _, _ := f.everything(t)
	for _, i := range items {
		tags[i.Repository+":"+i.Tag] = i.Digest
	}
	return tags
}

func (f *fixture) narrow(keepLast int, filters ...string) {
	f.plane.set(func(p *plane) { p.desired.Self.TagFilters, p.desired.Self.KeepLast = filters, keepLast })
}

func names(tags map[string]digest.Digest) string {
	return strings.Join(slices.Sorted(maps.Keys(tags)), " ")
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
			want := []string{"app/a:v0", "app/a:v1"}
			sign := func() {
				ofChild := f.image(t, "app/a", "signature of the child", signature(child))
				f.image(t, "app/a", "signature of the index", signature(index))
				f.image(t, "app/a", "signature of the SBOM", signature(sbom))
				f.image(t, "app/a", "signature of a signature", signature(ofChild))
				f.image(t, "app/a", "attestation", scope.CompanionStem(child)+".attestation") // of a signer that nobody knows
				for _, d := range []digest.Digest{child, index, sbom, ofChild} {
					want = append(want, "app/a:"+signature(d))
				}
				want = append(want, "app/a:"+scope.CompanionStem(child)+".attestation")
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
			delete(snapshot, "app/a:") // the SBOM, which has no tag
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
	for _, c := range f.poll(t, gateway.PollRequest{Cursor: cursor}).Changes {
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
		"the tag went":      {0, func(t *testing.T, f *fixture, _ digest.Digest) { f.DeleteTag(t.Context(), "app/a", "v1", "") }},
		"the manifest went": {0, func(t *testing.T, f *fixture, d digest.Digest) { f.DeleteManifest(t.Context(), "app/a", d, "") }},
		"a newer tag came":  {1, func(t *testing.T, f *fixture, _ digest.Digest) { f.image(t, "app/a", "2", "v2") }},
		"a newer tag came first": {1, func(t *testing.T, f *fixture, d digest.Digest) {
			f.image(t, "app/a", "2", "v2")
			f.DeleteTag(t.Context(), "app/a", "v1", "")
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
		if err := f.SetTag(t.Context(), "app/a", scope.CompanionStem(d)+"."+strings.Repeat("s", i+1), d, ""); err != nil {
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
		if a := f.poll(t, gateway.PollRequest{Cursor: test.cursor}); a.TakeSnapshot != test.want || a.TakeSnapshot == (len(a.Changes) > 0) {
			t.Errorf("%s: snapshot = %v, %d changes; want %v", name, a.TakeSnapshot, len(a.Changes), test.want)
		}
	}
}

func TestWhoFollowsAScopeHasWhatASnapshotHas(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	history := 0
	rapid.Check(t, func(r *rapid.T) {
		history++ // each has its own repositories
		repositories := []string{fmt.Sprintf("app/a%d", history), fmt.Sprintf("app/b%d", history)}
		seed := f.image(t, repositories[0], "0", "x0")
		f.narrow(rapid.IntRange(0, 4).Draw(r, "keep"), "x*")
		tags, cursor := map[string]digest.Digest{repositories[0] + ":x0": seed}, f.head(t)
		pushed := map[string][]digest.Digest{repositories[0]: {seed}}
		for i := range rapid.IntRange(1, 30).Draw(r, "steps") {
			repository := rapid.SampledFrom(repositories).Draw(r, "repository")
			tag := rapid.SampledFrom([]string{"x0", "x1", "x2", "x3", "x4", "x5", "y0"}).Draw(r, "tag")
			some := digest.FromString("none")
			if all := pushed[repository]; len(all) > 0 {
				some = rapid.SampledFrom(all).Draw(r, "manifest")
			}
			var d digest.Digest
			// What they are to remove, or to lead to, may not be there.
			switch rapid.IntRange(0, 10).Draw(r, "step") {
			case 0, 1:
				cursor = f.follow(t, cursor, tags)
			case 2:
				_ = f.DeleteTag(t.Context(), repository, tag, "")
			case 3:
				_ = f.DeleteTag(t.Context(), repository, signature(some), "")
			case 4:
				_ = f.DeleteManifest(t.Context(), repository, some, "")
			case 5, 6:
				d = f.image(t, repository, fmt.Sprint(i), signature(some))
			case 7:
				_ = f.SetTag(t.Context(), repository, tag, some, "")
			case 8:
				if has, _ := f.HasManifest(t.Context(), repository, some); has {
					d = f.index(t, repository, []digest.Digest{some}, tag)
				}
			case 9:
				d = f.referrer(t, repository, fmt.Sprint(i), some)
			default:
				d = f.image(t, repository, fmt.Sprint(i), tag)
			}
			if d != "" {
				pushed[repository] = append(pushed[repository], d)
			}
		}
		f.follow(t, cursor, tags)
		want := f.taken(t)
		maps.DeleteFunc(want, func(name string, _ digest.Digest) bool {
			repository, tag, _ := strings.Cut(name, ":")
			return tag == "" || !slices.Contains(repositories, repository)
		})
		if diff := cmp.Diff(want, tags); diff != "" {
			r.Fatalf("-snapshot +followed:\n%s", diff)
		}
	})
}
