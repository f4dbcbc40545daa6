package jsonlimit_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/jsonlimit"
)

type inner struct {
	Name string            `json:"name"`
	More map[string]string `json:"more"`
	Text [12]string        `json:"-"`
}

type base struct {
	Listed []inner `json:"listed"`
}

type outer struct {
	base2
	Base  *base           `json:"base"`
	Any   any             `json:"any"`
	Self  *outer          `json:"self"`
	Raw   json.RawMessage `json:"raw"`
	Names []string        `json:"names"`
	At    time.Time       `json:"at"`
	Count map[string]int  `json:"count"`
}

type base2 struct {
	Listings []inner `json:"listings"`
}

// memory is what the tests' decoder allows.
const memory = 64 << 10

func TestValuesAreCountedBeforeTheyAreCreated(t *testing.T) {
	many := func(open, element, end string) string {
		return open + strings.TrimSuffix(strings.Repeat(element+",", 5000), ",") + end
	}
	var members strings.Builder
	for i := range 5000 {
		members.WriteString(`"` + string(rune('a'+i%26)) + strings.Repeat("x", i%7) + `":1,`)
	}
	for name, text := range map[string]string{
		"objects":              many(`{"base":{"listed":[`, "{}", `]}}`),
		"null":                 many(`{"base":{"listed":[`, "null", `]}}`),
		"of another type":      many(`{"base":{"listed":[`, `""`, `]}}`),
		"an embedded list":     many(`{"listings":[`, "{}", `]}`),
		"in capitals":          many(`{"LISTINGS":[`, "{}", `]}`),
		"with a long s":        many(`{"liſtings":[`, "{}", `]}`),
		"with an escaped name": many(`{"\u006cistings":[`, "{}", `]}`),
		"several lists":        many(`{`, `"listings":[{},{},{},{}]`, `}`),
		"strings":              many(`{"names":[`, `""`, `]}`),
		"values of any type":   many(`{"any":[`, "0", `]}`),
		"lists of lists":       many(`{"any":[`, "[]", `]}`),
		"members of a map":     `{"count":{` + strings.TrimSuffix(members.String(), ",") + `}}`,
		"members of any type":  `{"any":{` + strings.TrimSuffix(members.String(), ",") + `}}`,
		"in itself":            strings.Repeat(`{"self":`, 500) + "{}" + strings.Repeat("}", 500),
		"a long text":          `{"names":["` + strings.Repeat("x", memory) + `"]}`,
	} {
		var v outer
		if _, err := jsonlimit.New[outer](memory).Unmarshal([]byte(text), &v); !errors.Is(err, jsonlimit.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(outer{}, v, cmp.AllowUnexported(outer{})); diff != "" {
			t.Errorf("%s: something was made: %s", name, diff)
		}
	}
}

func TestIgnoredFieldsCostNothing(t *testing.T) {
	text := `{"unknown":[` + strings.TrimSuffix(strings.Repeat(`{"a":[]},`, 10_000), ",") + `],"names":["a"]}`
	var v outer
	if _, err := jsonlimit.New[outer](1000).Unmarshal([]byte(text), &v); err != nil || len(v.Names) != 1 {
		t.Errorf("%v, %v", v, err)
	}
}

func TestTextWithinTheLimitIsDecoded(t *testing.T) {
	text := ` {"base" : {"listed":[{"name":"a\"]","more":{"k":"v"}}, null]}, "any":[1,{"x":[true]}], "raw": [1 , 2],
		"names":["é","\u00e9"], "at":"2030-01-02T03:04:05Z", "count":{"a":1}, "self":null}`
	var want, got outer
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		t.Fatal(err)
	}
	n, err := jsonlimit.New[outer](memory).Unmarshal([]byte(text), &got)
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(outer{})); diff != "" || err != nil || n < len(text)/2 ||
		n > 10_000 {
		t.Errorf("%v, %d bytes: %s", err, n, diff)
	}
}

func TestStrictDecoderRefusesAmbiguousFields(t *testing.T) {
	strict := jsonlimit.New[outer](memory).Strict()
	for text, want := range map[string]string{
		`{"names":["a"],"names":["b"]}`:                             "it has names twice in one object",
		`{"names":["a"],"\u006eames":null}`:                         "it has names twice in one object",
		`{"NAMES":["a"]}`:                                           `it has "NAMES" instead of names`,
		`{"li\u017ftings":[]}`:                                      `it has "li\\u017ftings" instead of listings`,
		`{"base":{"listed":[{"name":"a"},{"name":"b","Name":""}]}}`: `it has "Name" instead of name`,
		`{"self":{"self":{"raw":1,"raw":2}}}`:                       "it has raw twice in one object",

		`{"names":["a"],"self":{"names":["b"]}}`:   "",
		`{"count":{"a":1,"A":2},"x":1,"X":2}`:      "",
		`{"any":{"names":1,"NAMES":2,"names":3}}`:  "",
		`{"\u006eames":["a"],"raw":{"a":1,"A":2}}`: "",
	} {
		var v outer
		_, err := strict.Unmarshal([]byte(text), &v)
		if got, ok := errors.AsType[jsonlimit.FieldError](err); string(got) != want || ok != (want != "") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// FuzzUnmarshal compares the decoder with package json: a decoder with a high limit accepts
// the same texts and makes the same values, and its estimate is no less than the memory of
// their strings and elements.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{
		`{}`, `[]`, `{"base":{"listed":[{},{}]}}`, `{"any":{"a":[1,2,"x"]}}`, `{"names":["a","b"]`, `{"names":[,]}`,
		`"`, `{"a"`,
		`{"\u006eames":["a"]}`, `{"NAMES":["a"],"names":null}`, ` `, `{"self":{"self":{"names":["x"]}}}`,
		`{"count":{"a":1,"b":2}}`,
	} {
		f.Add([]byte(text))
	}
	d := jsonlimit.New[outer](1 << 30)
	f.Fuzz(func(t *testing.T, text []byte) {
		var want, got outer
		wantErr := json.Unmarshal(text, &want)
		n, err := d.Unmarshal(text, &got)
		if errors.Is(err, jsonlimit.ErrTooLarge) {
			return // nested deeply
		}
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%v, want %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(outer{})); diff != "" {
			t.Error(diff)
		}
		if n < least(&got) {
			t.Errorf("%d bytes are estimated, and there are at least %d", n, least(&got))
		}
	})
}

// least is what a value takes at least.
func least(v *outer) (bytes int) {
	count := func(names []string) {
		for _, name := range names {
			bytes += 16 + len(name)
		}
	}
	for v := v; v != nil; v = v.Self {
		count(v.Names)
		bytes += 200 * len(v.Listings)
		if v.Base != nil {
			bytes += 200 * len(v.Base.Listed)
		}
		for key := range v.Count {
			bytes += 16 + len(key)
		}
	}
	return bytes
}
