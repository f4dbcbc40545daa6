package subscription

import (
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestFiltersMatch(t *testing.T) {
	for _, test := range []struct {
		filter  string
		in, out string // tags
	}{
		{"v1.*", "v1.0 v1.2.3 v1.", "v2.0 xv1.0 v1"},
		{"*", "a v1 latest", ""},
		{"stable", "stable", "stable1 unstable"},
		{"v?.[0-3]", "v1.0 v9.3", "v10.0 v1.4"},
		{"/^v[0-9]+$/", "v1 v22", "v1.0 xv1"},
		{"/rc/", "1.0-rc1 rc", "1.0"},
		{">=1.4 <3", "1.4 1.4.0 v1.4 2.9.9 1.10", "1.3.9 3.0.0 latest 1.5-rc1 1.2.3.4"},
		{">=1.4, <3", "1.4", "3"},
		{">= 1.4 < 3", "1.4", "3"},
		{"^1.2", "1.2 1.9.9 v1.2.0", "1.1 2.0.0"},
		{"^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2 1.0"},
		{"^0.0.3", "0.0.3", "0.0.4 0.1.0"},
		{"^0", "0.1 0.9.9", "1.0"},
		{"~1.2.3", "1.2.3 1.2.9", "1.3.0 1.2.2"},
		{"~1", "1.0 1.9", "2.0"},
		{"=1.2", "1.2.0 1.2.7", "1.3 1.1"},
		{"=1.2.3", "1.2.3 v1.2.3 1.2.3+build 1.2.3_build.7", "1.2.4 1.2.3-rc_build"},
		{">=1.2.3-rc.1 <2", "1.2.3-rc.2_build 1.9_b_c", "1.2.3-rc.0_build 2.0.0_b 1.2.4-rc.1_b _1.3 1_.3"},
		{">1.2", "1.3 2.0", "1.2 1.2.9"},
		{"<=1.2", "1.2.9 0.1", "1.3"},
		{"^1 || ^3", "1.1 3.2", "2.0 4.0"},
		{">=1.0.0-rc.2", "1.0.0-rc.2 1.0.0-rc.10 1.0.0 1.1", "1.0.0-rc.1 1.1.0-rc.1 1.0.0-beta"},
	} {
		t.Run(test.filter, func(t *testing.T) {
			s, err := ParseTags([]string{"no-such-tag", test.filter}, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, tag := range strings.Fields(test.in) {
				if !s.Matches(tag) {
					t.Errorf("%s is not selected", tag)
				}
			}
			for _, tag := range strings.Fields(test.out) {
				if s.Matches(tag) {
					t.Errorf("%s is selected", tag)
				}
			}
		})
	}
}

func TestFiltersExclude(t *testing.T) {
	for _, test := range []struct {
		filters string
		in, out string // tags
	}{
		{"!old", "new v1", "old"},
		{"!*-rc* !/^nightly/", "1.0 latest", "1.0-rc1 nightly-7"},
		{"!<2", "2.0 3 latest", "1.0 1.9.9"},
		{"v* !v1.*", "v1 v2.0", "v1.0 x"},
		{"!v1.* v*", "v1 v2.0", "v1.0 x"},
		{"^2 ^3 !=2.1.3", "2.1.2 3.0", "2.1.3 4.0 latest"},
	} {
		t.Run(test.filters, func(t *testing.T) {
			s, err := ParseTags(strings.Fields(test.filters), 0)
			if err != nil || s.All() {
				t.Fatal(s.All(), err)
			}
			for _, tag := range strings.Fields(test.in) {
				if !s.Matches(tag) {
					t.Errorf("%s is not selected", tag)
				}
			}
			for _, tag := range strings.Fields(test.out) {
				if s.Matches(tag) {
					t.Errorf("%s is selected", tag)
				}
			}
		})
	}
}

func TestMalformedFiltersAreRefused(t *testing.T) {
	for _, filter := range []string{"", "/", "//", "/a", "/(/", "[", "a[", `a\`, ">", ">=x", ">=1.2.3.4", "=>1", "<>1",
		"^1 ||", "^1 || x", "^1.2.3-", "!", "!!old", "!/a", "!>", "v1.*,v2.*", "v1 v2", "a/*", "é",
		strings.Repeat("a", maxFilterLength+1)} {
		if _, err := ParseTags([]string{filter}, 0); err == nil || !strings.Contains(err.Error(), "tag filter") {
			t.Errorf("ParseTags(%.20q) = %v, want an error that names it", filter, err)
		}
	}
	for _, keep := range []int{-1, maxKeepLast + 1} {
		if _, err := ParseTags(nil, keep); err == nil {
			t.Errorf("ParseTags with keep-last %d succeeded", keep)
		}
	}
	if _, err := ParseTags(make([]string, maxFilters+1), 0); err == nil {
		t.Error("too many filters are not refused")
	}
}

func TestNoFilterMatchesEveryTag(t *testing.T) {
	s, err := ParseTags(nil, 0)
	if err != nil || !s.All() || !s.Matches("x") || !(Tags{}).Matches("x") {
		t.Errorf("%+v, %v", s, err)
	}
	if s, _ = ParseTags(nil, 3); s.All() || s.KeepLast() != 3 || !s.Matches("x") {
		t.Errorf("%+v", s)
	}
}

func TestSignatureTagsAreAttachedToTheirSubject(t *testing.T) {
	d := digest.FromString("x")
	for _, d := range []digest.Digest{d, digest.SHA512.FromString("x")} {
		stem := strings.Replace(string(d), ":", "-", 1)
		for _, suffix := range []string{"", ".sig", ".att", ".sbom"} {
			if got, ok := AttachedTo(stem + suffix); !ok || got != d {
				t.Errorf("AttachedTo(%s) = %s, %t", stem+suffix, got, ok)
			}
		}
	}
	for _, tag := range []string{"v1", "sha256-abc.sig", "sha512-" + d.Encoded(), "sha256-" + d.Encoded() + ".SIG"} {
		if got, ok := AttachedTo(tag); ok {
			t.Errorf("AttachedTo(%s) = %s", tag, got)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, filter := range []string{"v*", "/^v1/", ">=1.2 <2 || ^3", "~0", "=1.2.3-rc.1", "[a-", "!v*", "!/rc/"} {
		f.Add(filter, "v1.2.3-rc.1+b")
	}
	f.Fuzz(func(t *testing.T, filter, tag string) {
		s, err := ParseTags([]string{filter}, 0)
		if err != nil || len(tag) > 128 { // the longest tag
			return
		}
		all, err := ParseTags([]string{filter, "*"}, 0)
		want := !strings.Contains(tag, "/") && (filter[0] != '!' || s.Matches(tag)) || filter[0] != '!' &&
			s.Matches(tag)
		if err != nil || all.Matches(tag) != want {
			t.Errorf("with a second filter that matches: %v, %v", all.Matches(tag), err)
		}
	})
}

func FuzzVersionOrder(f *testing.F) {
	f.Add("1.2.3", "v1.2", "1.2.3-rc.1")
	f.Add("1.0.0-a.1", "1.0.0-a.b", "1.0.0-1")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		x, okX := parseVersion(a)
		y, okY := parseVersion(b)
		z, okZ := parseVersion(c)
		if !okX || !okY || !okZ {
			return
		}
		if x.compare(x) != 0 || x.compare(y) != -y.compare(x) {
			t.Errorf("%q and %q: %d, %d", a, b, x.compare(y), y.compare(x))
		}
		if x.compare(y) <= 0 && y.compare(z) <= 0 && x.compare(z) > 0 {
			t.Errorf("%q <= %q <= %q, but not the first and the last", a, b, c)
		}
	})
}
