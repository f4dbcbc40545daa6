package demo

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsAreShownAndParsedLikeInAShell(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out}
	lines := []string{"ferry create -n aurora", "--sync-schedule '* * * * *' --repository 'demo/*' -o tsv > file"}
	s.command(lines...)
	want := `   $ ferry create -n aurora \
       --sync-schedule '* * * * *' --repository 'demo/*' -o tsv > file
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	args := []string{"ferry", "create", "-n", "aurora", "--sync-schedule", "* * * * *", "--repository", "demo/*", "-o",
		"tsv", ">", "file"}
	if diff := cmp.Diff(args, splitWords(lines...)); diff != "" {
		t.Error(diff)
	}
}

func TestLongLinesBreakBetweenWords(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, columns: 20}
	s.print("one two three four five\n\n%s", strings.Repeat("x", 30))
	want := "   one two three\n   four five\n\n   " + strings.Repeat("x", 30) + "\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsLinesWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &screen{out: &out}
		s.print("start")
		s.progress("sync x:v1", 1, 2<<20)
		time.Sleep(lineInterval)
		s.progress("sync x:v1", 3<<19, 2<<20)
		s.progress("sync x:v1", 2<<20, 2<<20)
		if got, want := out.String(), "   start\n   sync x:v1: 1.5 MiB of 2.0 MiB\n"; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

func TestProgressIsABarOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := &screen{out: &out, terminal: true, color: true}
		s.title("Step")
		for range 2 {
			time.Sleep(drawInterval)
			s.progress("sync x:v1", 2000, 1500)
		}
		s.print("done")
		bar := "   " + strings.Repeat("█", 30) + "  sync x:v1: 1.5 KiB of 1.5 KiB"
		want := "\n\x1b[1m1. Step\x1b[0m\n" + bar + "\r\x1b[K" + bar + "\r\x1b[K   done\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Error(diff)
		}
	})
}
