package demo

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestACommandIsShownAsAShellReadsIt(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	s.typed([]string{"ferry", "scope-map", "create", "--repository", "demo/*", "content/read", "--description", "the ship's",
		"--query", "a_rather_long_query_that_does_not_fit", "-o", "tsv"}, "> file name")
	want := `   $ ferry scope-map create --repository 'demo/*' content/read \
       --description 'the ship'\''s' \
       --query a_rather_long_query_that_does_not_fit -o tsv > file name
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsLinesWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	b := s.begin("cross x:v1", 2_000_000)
	b.at(1)
	b.silent = b.last // two seconds later
	b.at(1_500_000)
	b.end(nil)
	if got, want := out.String(), "   cross x:v1: 1.5 MB of 2.0 MB\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestProgressIsABarOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true, color: true}
	s.title("Step")
	b := s.begin("cross x:v1", 1000)
	b.at(2000)
	b.end(nil)
	for _, want := range []string{"\x1b[1m1. Step\x1b[0m", "cross x:v1", "1.0 kB"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}

func TestSizesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0 bytes", 999: "999 bytes", 1000: "1.0 kB", 1_250_000: "1.2 MB", 3e9: "3.0 GB", 5e15: "5000.0 TB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
