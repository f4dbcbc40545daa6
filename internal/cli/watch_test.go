package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/api"
)

// standing is a connected registry in a state.
func standing(name, state, reason string) api.ConnectedRegistry {
	return api.ConnectedRegistry{Name: name, Summary: api.Summary{State: state, Reason: api.Text(reason)}}
}

func TestChangesAreSaidOnce(t *testing.T) {
	known := map[string]string{}
	for _, step := range []struct {
		all  []api.ConnectedRegistry
		want []string
	}{
		{[]api.ConnectedRegistry{standing("ship1", api.Unknown, "NotActivated"), standing("ship2", api.InSync, "")},
			[]string{"ship1 Unknown NotActivated", "ship2 InSync"}},
		{[]api.ConnectedRegistry{standing("ship2", api.InSync, ""), standing("ship1", api.Unknown, "NotActivated")},
			nil},
		{[]api.ConnectedRegistry{standing("ship1", api.NeedsYou, "Disk\nError"), standing("ship2", api.InSync, "")},
			[]string{"ship1 NeedsYou Disk Error"}},
		{[]api.ConnectedRegistry{standing("ship1", api.NeedsYou, "Disk\nError")},
			[]string{"ship2 is no longer listed"}},
		{[]api.ConnectedRegistry{standing("ship1", api.InSync, ""), standing("ship2", api.InSync, "")},
			[]string{"ship1 InSync", "ship2 InSync"}},
	} {
		var out bytes.Buffer
		sayChanges(&Env{Stdout: &out}, known, step.all)
		var got []string
		for line := range strings.Lines(out.String()) {
			_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			got = append(got, rest)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%v: %s", step.all, diff)
		}
	}
}

func TestWatchSurvivesErrorsAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		env := &Env{Stderr: &said}
		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		times := 0
		err := repeat(ctx, env, func(context.Context) error {
			if times++; times == 2 {
				return errors.New("no route")
			}
			return nil
		})
		if err != nil || times != 3 || said.String() != "warning: no route\n" {
			t.Errorf("%v after %d times, %q", err, times, &said)
		}
		want := errors.New("no login")
		if err := repeat(t.Context(), env, func(context.Context) error { return want }); err != want {
			t.Errorf("an error at first: %v", err)
		}
		canceled := func(context.Context) error { return context.Canceled }
		if err := repeat(ctx, env, canceled); err != nil {
			t.Errorf("at the end of its context: %v", err)
		}
	})
}

func TestScreenFitsTheTerminal(t *testing.T) {
	text := strings.Repeat("row\n", 30)
	for lines, want := range map[int]int{0: 31, 24: 23, 32: 31, 40: 31, 3: 2, 1: 31} {
		got := screen(text, lines)
		if n := strings.Count(got, "\n"); n != want {
			t.Errorf("on a terminal of %d lines it has %d, want %d", lines, n, want)
		}
	}
	if got := screen(text, 24); !strings.Contains(got, "\n... and 9 lines, ") {
		t.Errorf("it does not say how many lines are left out: %q", got)
	}
}
