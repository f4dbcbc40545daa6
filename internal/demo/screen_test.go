package demo

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestACommandIsShownAndReadAsAShellReadsIt(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	lines := []string{"ferry create -n aurora", "--sync-schedule '* * * * *' --repository 'demo/*' -o tsv > file"}
	s.typed(lines...)
	want := `   $ ferry create -n aurora \
       --sync-schedule '* * * * *' --repository 'demo/*' -o tsv > file
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	args := []string{"ferry", "create", "-n", "aurora", "--sync-schedule", "* * * * *", "--repository", "demo/*", "-o", "tsv", ">", "file"}
	if diff := cmp.Diff(args, words(lines...)); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsLinesWhereThereIsNoTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &screen{out: &out}
		p := s.begin("cross x:v1", 2<<20)
		p.at(1)
		time.Sleep(lineEvery)
		p.at(3 << 19)
		p.at(2 << 20)
		p.end()
		if got, want := out.String(), "   cross x:v1: 1.5 MiB of 2.0 MiB\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestProgressIsABarOnATerminal(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, terminal: true, color: true}
	s.title("Step")
	p := s.begin("cross x:v1", 1500)
	p.at(2000)
	p.end()
	for _, want := range []string{"\x1b[1m1. Step\x1b[0m", "\r   " + strings.Repeat("█", 30) + "  cross x:v1: 1.5 KiB of 1.5 KiB", "\r\x1b[K"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q lacks %q", out.String(), want)
		}
	}
}
