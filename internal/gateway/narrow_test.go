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
	tag := func(d digest.Digest) string { return strings.Replace(string(d), ":", "-", 1) + ".sig" }
	f.image(t, "app/a", "sig1", tag(signed))
	f.image(t, "app/a", "sig2", tag(other))
	got := map[string]digest.Digest{}
	if cursor = f.follow(t, cursor, got); len(got) != 0 {
		t.Errorf("%s came before it was released", names(got))
	}
	f.image(t, "app/a", "1", "release")
	f.follow(t, cursor, got)
	want := "app/a:release app/a:" + tag(signed)
	if names(got) != want {
		t.Errorf("changes have %q, want %q", names(got), want)
	}
	if got := names(f.taken(t)); got != want {
		t.Errorf("snapshot has %q, want %q", got, want)
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

func TestWhoFollowsTheNewestFewHasWhatASnapshotHas(t *testing.T) {
	f := newFixture(t, dbtest.SQLite(t))
	f.activate(t)
	history := 0
	rapid.Check(t, func(r *rapid.T) {
		history++ // each has its own repositories
		repositories := []string{fmt.Sprintf("app/a%d", history), fmt.Sprintf("app/b%d", history)}
		seed := f.image(t, repositories[0], "0", "x0")
		f.narrow(rapid.IntRange(1, 4).Draw(r, "keep"), "x*")
		tags, cursor := map[string]digest.Digest{repositories[0] + ":x0": seed}, f.head(t)
		for i := range rapid.IntRange(1, 25).Draw(r, "steps") {
			repository := rapid.SampledFrom(repositories).Draw(r, "repository")
			tag := rapid.SampledFrom([]string{"x0", "x1", "x2", "x3", "x4", "x5", "y0"}).Draw(r, "tag")
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0:
				cursor = f.follow(t, cursor, tags)
			case 1, 2:
				_ = f.DeleteTag(t.Context(), repository, tag, "") // it may not be there
			default:
				f.image(t, repository, fmt.Sprint(i), tag)
			}
		}
		f.follow(t, cursor, tags)
		want := f.taken(t)
		maps.DeleteFunc(want, func(name string, _ digest.Digest) bool {
			repository, _, _ := strings.Cut(name, ":")
			return !slices.Contains(repositories, repository)
		})
		if diff := cmp.Diff(want, tags); diff != "" {
			r.Fatalf("-snapshot +followed:\n%s", diff)
		}
	})
}
