package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/api"
)

// importing is an import in the form of the management API.
func importing(state, why string, done, total int64) api.Import {
	i := api.Import{State: state, Error: api.Text(why),
		ByteProgress: api.ByteProgress{BytesDone: done, BytesTotal: total}}
	if done > 0 {
		i.BytesPerSecond, i.EtaSeconds = 2048, new(int64(90))
	}
	return i
}

// awaiting waits for the import that read returns.
func awaiting(ctx context.Context, env *Env, read func(context.Context) (api.Import, error)) error {
	first, _ := read(ctx)
	_, err := await(ctx, env, result[api.Import]{value: first}, importProgress,
		func(ctx context.Context) (i result[api.Import], err error) {
			i.value, err = read(ctx)
			return i, err
		})
	return err
}

func TestProgressIsPrintedAsLinesWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		err := awaiting(t.Context(), &Env{Stderr: &out}, func(context.Context) (api.Import, error) {
			switch n := int64(time.Since(began) / time.Second); {
			case n < 5:
				return importing("Pending", "", 0, 0), nil
			case n < 10:
				return importing("Running", "no such\nhost", 0, 0), nil
			case n < 20:
				return importing("Running", "", n<<20, 40<<20), nil
			case n < 60: // no bytes are received
				return importing("Running", "", 20<<20, 40<<20), nil
			}
			return importing("Succeeded", "", 40<<20, 40<<20), nil
		})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for _, want := range []string{"waiting for its turn", "waiting for the source: no such host",
			"20.0 MiB of 40.0 MiB, 2.0 KiB/s, 1m30s left"} {
			if !slices.Contains(lines, want) {
				t.Errorf("%q was not said: %q", want, lines)
			}
		}
		if err != nil || len(lines) > 7 {
			t.Errorf("%v; %d lines in a minute of which half was the same: %q", err, len(lines), lines)
		}
	})
}

func TestAProgressBarShowsTheReasonForAWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		asked := 0
		states := []api.Import{importing("Running", "too many requests", 0, 0), importing("Running", "", 1<<20, 4<<20),
			importing("Succeeded", "", 4<<20, 4<<20)}
		err := drawProgress(t.Context(), &out, importProgress(importing("Running", "", 0, 0)),
			func(context.Context) (sample, error) {
				asked++
				return sample{all: importProgress(states[asked-1])}, nil
			})
		for _, want := range []string{"asking the source", "waiting for the source: too many requests",
			"1.0 MiB of 4.0 MiB, 2.0 KiB/s, 1m30s left"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was not drawn: %q", want, &out)
			}
		}
		if err != nil || strings.Contains(out.String(), "0 B of 0 B") {
			t.Errorf("%v, %q", err, &out)
		}
	})
}

func TestAnInterruptedWaitSaysThatTheRegistryGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := importing("Running", "", 0, 0)
		for name, wait := range map[string]func(context.Context) error{
			"at a bar": func(ctx context.Context) error {
				now := importProgress(running)
				return drawProgress(ctx, &bytes.Buffer{}, now,
					func(context.Context) (sample, error) { return sample{all: now}, nil })
			},
			"between two questions": func(ctx context.Context) error {
				return awaiting(ctx, &Env{Stderr: &bytes.Buffer{}},
					func(context.Context) (api.Import, error) { return running, nil })
			},
			"in a question": func(ctx context.Context) error {
				asked := 0
				return awaiting(ctx, &Env{Stderr: &bytes.Buffer{}}, func(ctx context.Context) (api.Import, error) {
					if asked++; asked == 1 {
						return running, nil
					}
					<-ctx.Done()
					return api.Import{}, fmt.Errorf("reach home: %w", ctx.Err())
				})
			},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			if err := wait(ctx); !errors.Is(err, errInterrupted) {
				t.Errorf("%s: %v", name, err)
			}
			cancel()
		}
	})
}

func TestARunningSyncIsDrawnUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		status := func(state string, done, left int64) progress {
			return progressOf(state, nil, api.ByteProgress{
				BytesDone: done << 20, BytesTotal: 4 << 20, BytesPerSecond: 2048, EtaSeconds: &left,
			})
		}
		asked := 0
		ask := func(context.Context) (sample, error) {
			if asked++; asked == 4 {
				return sample{all: status("Online", 4, 0)}, nil
			}
			item := api.SyncItem{
				Repository: "factory/applications/web", Tag: new(fmt.Sprint("v", asked)),
				BytesDone: new(int64(512)), BytesTotal: new(int64(1024)), BytesPerSecond: new(int64(100)),
				EtaSeconds: new(int64(6)),
			}
			return sample{status("Syncing", int64(asked), 90), []api.SyncItem{item}}, nil
		}
		var out bytes.Buffer
		if err := drawProgress(t.Context(), &out, status("Syncing", 0, 90), ask); err != nil {
			t.Error(err)
		}
		for _, want := range []string{"1.0 MiB of 4.0 MiB, 2.0 KiB/s, 1m30s left", "3.0 MiB of 4.0 MiB", "=>",
			" …pplications/web:v1 [", " …pplications/web:v3 [", "512 B of 1.0 KiB, 100 B/s, 6s left"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was not drawn: %q", want, &out)
			}
		}
		if asked != 4 {
			t.Errorf("asked %d times", asked)
		}
	})
}

func TestNoBarIsDrawnWithoutARunningSync(t *testing.T) {
	var out bytes.Buffer
	if err := drawProgress(t.Context(), &out, progressOf("Online", nil, api.ByteProgress{}), nil); err != nil ||
		out.Len() > 0 {
		t.Errorf("%q, %v", &out, err)
	}
}

func TestMirrorWaitSaysThatTheSourceIsAskedAgain(t *testing.T) {
	rule := api.MirrorRule{Status: api.MirrorStatus{State: "Running", Error: new("GET /v2/app/tags/list: not JSON")}}
	want := "waiting for the source, which is asked again for up to 10 minutes: GET /v2/app/tags/list: not JSON"
	if got := progressLine(mirrorProgress(rule)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	rule.Status.State = "Failed"
	if p := mirrorProgress(rule); p.running || p.waiting != "" {
		t.Errorf("a run that failed still waits: %+v", p)
	}
}
