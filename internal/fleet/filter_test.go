package fleet

import (
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

func TestFilterSelectsByEachKey(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	parent := &control.Registry{ConnectedRegistry: metadb.ConnectedRegistry{Name: "Ship1"}}
	r := &control.Registry{
		ConnectedRegistry: metadb.ConnectedRegistry{Name: "Cabin1", Parent: "Ship1"},
		Settings: control.Spec{Spec: wire.Spec{Mode: "ReadOnly",
			Labels: map[string]string{"group": "baltic", "example.com/owner": "ops"}}},
	}
	v := Standing{
		Name: "Cabin1", State: api.Behind, Reason: reasonNoProgress, Problems: []string{"DiskError"},
		Since: now.Add(-30 * time.Hour), Heard: now.Add(-time.Hour), ItemsPending: 3, ItemsFailed: 1,
		BytesPending: 2 << 30, registry: r, path: &subscriptionPath{registries: []*control.Registry{r, parent}},
		report: &lastReport{Status: wire.Status{Version: "v0.2.1-rc1"}},
	}
	for filter, want := range map[string]bool{
		"": true, "name:cabin1": true, "name:cab*": true, "name:*1": true, "name:c*n*": true, "name:abin1": false,
		"name:x,cabin*": true, "parent:ship1": true, "parent:SH*": true, "parent:cabin1": false,
		"state:behind": true, "state:silent,BEHIND": true, "state:insync": false,
		"reason:noprogress": true, "reason:DiskError": true, "reason:LinkDown": false,
		"behind>1d": true, "behind>1d6h": false, "behind>=1d6h": true, "behind:>29h": true, "behind<2d": true,
		"behind<=30h": true, "behind<30h": false, "heard>30m": true, "heard>2h": false,
		"items>3": true, "items>4": false, "items>=4": true,
		"bytes>1GiB": true, "bytes>2.5GB": false, "bytes>2147483647": true,
		"version:<0.3": true, "version:<0.2.1": true, "version:>=0.2.1": false,
		"version:v0.2*": true, "version:0.3": false,
		"mode:readonly": true, "mode:ReadWrite": false,
		"group:baltic": true, "group:north,bal*": true, "group:*": true, "Group:baltic": false, "owner:ops": false,
		"example.com/owner:ops": true, "-group:baltic": false, "!group:north": true, "-owner:*": true,
		"  group:baltic   state:behind ": true, "group:baltic state:insync": false, "-group:x -name:y*": true,
	} {
		f, err := ParseFilter(filter)
		if err != nil {
			t.Errorf("%q: %v", filter, err)
			continue
		}
		m := matcher{terms: f.terms, now: now, holders: make([]*holders, len(f.terms))}
		if got, err := m.matches(&v); err != nil || got != want {
			t.Errorf("%q: %t, %v", filter, got, err)
		}
	}
}

func TestFilterErrorsPointAtTheTerm(t *testing.T) {
	for filter, want := range map[string]string{
		"group:baltic ship1":       "term 2 ('ship1'): want KEY:VALUE, such as name:ship1*",
		":x":                       "term 1 (':x'): want KEY:VALUE",
		"group:":                   "it has no value",
		"behind:1d":                "want a comparison, such as behind>1d",
		"behind>soon":              "'soon' is not a time",
		"behind>1d2":               "'1d2' is not a time",
		"behind>999999w":           "is not a time",
		"items>-1":                 "'-1' is not a number",
		"bytes>1XB":                "'1XB' is not a size",
		"bytes>NaN":                "is not a size",
		"state:late":               "'late' is not a state: want one of InSync",
		"mode:readwrit":            "'readwrit' is not a mode: want one of ReadOnly, ReadWrite",
		"name>ship":                "'name' has no order",
		"group<baltic":             "'group' is a label, and labels have no order: want group:VALUE",
		"a b c d e/f/g:x":          "term 1",
		"b@d:x":                    "not a key of a label",
		"version:<new":             "'new' is not a version",
		"image:apps/nav":           "want REPOSITORY:TAG or REPOSITORY@DIGEST",
		"image:apps/nav@sha2":      "'sha2' is not a digest",
		"image:Apps/nav:1":         "is not the name of a repository",
		"-":                        "term 1 ('-')",
		strings.Repeat("a:b ", 21): "more than 20 terms",
		strings.Repeat("a", 2001):  "longer than 2000 bytes",
	} {
		if _, err := ParseFilter(filter); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %q", filter, err, want)
		}
	}
}

func FuzzFilter(f *testing.F) {
	for _, seed := range []string{
		"state:behind,silent behind>1d reason:DiskError group:baltic version:<0.3 -name:test* !image:a/b:1",
		"image:apps/nav@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 bytes>=1.5GiB",
		"name:*a*b*",
	} {
		f.Add(seed)
	}
	r := &control.Registry{Settings: control.Spec{Spec: wire.Spec{Labels: map[string]string{"a": "b"}}}}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := ParseFilter(text)
		if err != nil {
			return
		}
		m := matcher{terms: filter.terms, now: time.Unix(1, 0), holders: make([]*holders, len(filter.terms))}
		for _, term := range filter.terms {
			if term.key == "image" {
				return // it needs content
			}
		}
		v := Standing{Name: "ship1", State: api.InSync, registry: r, report: &lastReport{}}
		before, err := m.matches(&v)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.terms { // the excluding terms of one are the others
			one := matcher{terms: m.terms[i : i+1], now: m.now, holders: m.holders[:1]}
			with, _ := one.matches(&v)
			one.terms[0].exclude = !one.terms[0].exclude
			if without, _ := one.matches(&v); with == without {
				t.Errorf("%q: both it and its opposite match: %t", one.terms[0].text, with)
			}
			one.terms[0].exclude = !one.terms[0].exclude
			if before && !with {
				t.Errorf("%q matches, but not its term %q", text, one.terms[0].text)
			}
		}
	})
}
