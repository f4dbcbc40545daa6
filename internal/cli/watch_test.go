package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
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

func TestNothingIsDrawnAnewOnADumbTerminal(t *testing.T) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine has no pseudo-terminals:", err)
	}
	defer screen.Close()
	for name, want := range map[string]bool{"xterm": true, "": true, "dumb": false} {
		env := &Env{LookupEnv: Variables(map[string]string{"TERM": name})}
		if got := env.draws(screen); got != want {
			t.Errorf("TERM=%s: %v, want %v", name, got, want)
		}
		if env.draws(&bytes.Buffer{}) {
			t.Error("a buffer is no terminal")
		}
	}
}

// roundTrip is a transport without a network.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answers returns a client of a registry that answers with these statuses and bodies in turn, and
// with the last one from then on. Status 0 is no answer.
func answers(t *testing.T, all ...any) *client {
	c := clientOf(t, "http://root.example")
	times := 0
	c.http.Transport = roundTrip(func(*http.Request) (*http.Response, error) {
		i := min(times, len(all)/2-1) * 2
		times++
		status := all[i].(int)
		if status == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{},
			Body: io.NopCloser(strings.NewReader(all[i+1].(string)))}, nil
	})
	return c
}

func TestWaitGoesOnWhileTheRootRestarts(t *testing.T) {
	const none, all = `{"sites":2,"have":0,"percent":0}`, `{"sites":2,"have":2,"percent":100}`
	for name, test := range map[string]struct {
		answers []any
		fails   string
	}{
		"restarts":        {[]any{200, none, 0, "", 503, "", 429, "", 200, all}, ""},
		"is gone":         {[]any{200, none, 0, ""}, "unexpected EOF"},
		"refuses":         {[]any{200, none, 404, ""}, "Not Found"},
		"was never there": {[]any{0, "", 200, all}, "unexpected EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				env := &Env{Stdout: &out, Stderr: io.Discard, LookupEnv: Variables(nil), output: "json"}
				o := &waitOptions{image: imageArgument{"factory/app:1.0"}, percent: 100, timeout: time.Minute}
				err := o.run(t.Context(), env, answers(t, test.answers...))
				if got := fmt.Sprint(err); (err == nil) != (test.fails == "") || !strings.Contains(got, test.fails) {
					t.Errorf("%v, want %q", err, test.fails)
				}
			})
		})
	}
}

func TestProgressGoesOnWhileTheRegistryRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := sample{all: progress{running: true}}
		away := fmt.Errorf("reach home: %w", noAnswerError{io.ErrUnexpectedEOF})
		times := 0
		err := poll(t.Context(), running, func(sample) {}, func(context.Context) (sample, error) {
			switch times++; {
			case times < 5:
				return running, nil
			case times < 60:
				return sample{}, away
			}
			return sample{}, nil
		})
		if err != nil || times != 60 {
			t.Errorf("%v after %d questions", err, times)
		}
		gone := func(context.Context) (sample, error) { return running, away }
		err = poll(t.Context(), running, func(sample) {}, gone)
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("the registry stays away: %v", err)
		}
	})
}
