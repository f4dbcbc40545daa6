package oci

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
)

func TestLinkHeadersAreParsedCompletely(t *testing.T) {
	for _, test := range []struct {
		headers []string
		want    string // the next page's query
	}{
		{nil, ""},
		{[]string{""}, ""},
		{[]string{`</v2/a/tags/list?last=v2&n=2>; rel="next"`}, "last=v2&n=2"},
		{[]string{`<?last=v2>;rel=next`}, "last=v2"},
		{[]string{`<https://elsewhere.example/x?last=v2>; type="application/json"; rel="next"`}, "last=v2"},
		{[]string{`<x?last=v2>; title="a, <b>; rel=\"prev\"" ; REL = "last  NEXT"`}, "last=v2"},
		{[]string{`<x?last=a,b;c>; rel=next`}, ""},
		{[]string{`<x?last=a,b>; rel=next`}, "last=a%2Cb"},
		{[]string{`<x?last=v0>; rel="prev", <x?last=v2>; rel="next"`}, "last=v2"},
		{[]string{`<x?last=v0>; rel="first"`, `, <x?last=v2>; rel="next";,`}, "last=v2"},
		{[]string{`<x?last=v2>; rel=next, <y?last=v2>; rel=next`}, "last=v2"},
		{[]string{`<x?last=v2>; type=application/json; rel=next`}, "last=v2"},
		{[]string{`<x?last=v2>; rel="prev"; rel="next"`}, ""},
		{[]string{`<x?last=v2>; rev="next"; anchor`}, ""},
	} {
		next, err := NextPage(test.headers)
		if strings.Contains(strings.Join(test.headers, ""), ";c>") {
			if err == nil { // a ';' in a query is read in two ways
				t.Errorf("%q: no error", test.headers)
			}
			continue
		}
		if err != nil || next.Encode() != test.want {
			t.Errorf("%q: %q, %v, want %q", test.headers, next.Encode(), err, test.want)
		}
	}
}

func TestInvalidLinkHeaderIsAnError(t *testing.T) {
	for _, header := range []string{
		`/v2/a/tags/list?last=v2; rel="next"`, `/v2/a/tags/list?last=v2`, `<x?last=v2; rel="next"`,
		`<x?last=v2> rel="next"`, `<x?last=v2>; rel="next`, `<x?last=v2>; rel="next\`, `<x?last=v2>; rel=next"`,
		`<x?last=v2>; rel=next, y?last=v2; rel=next`, `<x?last=v2>; rel=next, <y?last=v3>; rel=next`,
		`<x>; rel=next`, `<>; rel=next`, `<x?%zz>; rel=next`, `<http://[?n=1>; rel=next`,
		`<x?last=` + strings.Repeat("a", maxLink) + `>; rel=next`,
	} {
		if next, err := NextPage([]string{header}); err == nil {
			t.Errorf("%.80q: %q, and no error", header, next.Encode())
		} else if len(err.Error()) > 400 {
			t.Errorf("%.80q: the error has %d bytes", header, len(err.Error()))
		}
	}
}

func FuzzNextPage(f *testing.F) {
	for _, header := range []string{
		`</v2/a/tags/list?last=v2&n=2>; rel="next"`, `<x>; title="\"", <y?a=b>;rel=next ; rel`, `<x`, `"`, `;`,
	} {
		f.Add(header, "v2", `a title`)
	}
	f.Fuzz(func(t *testing.T, header, last, title string) {
		NextPage([]string{header}) // which must not panic
		if len(last)+len(title) > 1000 {
			return
		}
		// A valid link is found after any other valid link.
		quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(title)
		link := fmt.Sprintf(`<x?n=1>; rel="prev"; title="%s", <x?%s>; title="%s"; rel="next"`,
			quoted, url.Values{"last": {last}}.Encode(), quoted)
		if next, err := NextPage([]string{link}); err != nil || next.Get("last") != last {
			t.Errorf("%q: %q, %v", link, next, err)
		}
	})
}
