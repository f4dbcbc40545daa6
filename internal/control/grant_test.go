package control

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"ferry/internal/auth"

	"github.com/google/go-cmp/cmp"
)

func reads(rules ...string) (actions []string) {
	for _, r := range rules {
		actions = append(actions, "repositories/"+r+"/content/read")
	}
	return actions
}

func TestGrantRemovesExclusionsThatItCovers(t *testing.T) {
	for _, test := range []struct {
		name             string
		have, more, want []string
		refused          bool
	}{
		{"names", reads("a"), reads("b"), reads("a", "b"), false},
		{"the same name", reads("a"), reads("a"), reads("a"), false},
		{"an excluded name", reads("n/*", "!n/s"), reads("n/s"), reads("n/*", "n/s"), false},
		{"a wider pattern", reads("n/*", "!n/s"), reads("*"), reads("n/*", "*"), false},
		{"a part of an exclusion", reads("n/*", "!n/p/*"), reads("n/p/a"), nil, true},
		{"an exclusion of nothing", reads("a"), reads("n/*", "!n/s"), reads("a", "n/*", "!n/s"), false},
		{"an exclusion of something", reads("n/s"), reads("n/*", "!n/s"), reads("n/s", "n/*"), false},
		{"the same exclusion", reads("n/*", "!n/s"), reads("n/*", "!n/s"), reads("n/*", "!n/s"), false},
		{"a narrower exclusion", reads("n/*", "!n/p/*"), reads("n/*", "!n/p/a"), reads("n/*", "!n/p/a"), false},
	} {
		got, err := Grant("m", test.have, test.more)
		if (err != nil) != test.refused {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
	}
}

var grantNames = []string{"a", "a/b", "a/b/c", "a/b/other", "a/other", "b", "other"}

func drawReads(t *rapid.T, label string) []string {
	return reads(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "a/b", "a/b/c", "b", "a/*", "a/b/*", "*",
		"!a", "!a/b", "!a/b/c", "!b", "!a/*", "!a/b/*"}), 0, 4).Draw(t, label)...)
}

func allowed(t *rapid.T, actions []string) (all []string) {
	p, err := auth.ParsePermissions(actions)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range grantNames {
		if p.AllowsRepository(name, auth.ContentRead) {
			all = append(all, name)
		}
	}
	return all
}

func TestGrantTakesNothingAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		have, more := drawReads(t, "have"), drawReads(t, "more")
		got, err := Grant("m", have, more)
		if err != nil {
			return
		}
		after := allowed(t, got)
		for _, name := range slices.Concat(allowed(t, have), allowed(t, more)) {
			if !slices.Contains(after, name) {
				t.Errorf("%q and %q became %q, which does not allow %s", have, more, got, name)
			}
		}
	})
}

func TestProgramsWithoutExclusionsGetNoMoreRights(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		actions := drawReads(t, "actions")
		got := WithoutExclusions(actions)
		if HasExclusions(got) {
			t.Errorf("%q became %q", actions, got)
		}
		for _, name := range allowed(t, got) {
			if !slices.Contains(allowed(t, actions), name) {
				t.Errorf("%q became %q, which allows %s", actions, got, name)
			}
		}
	})
}
