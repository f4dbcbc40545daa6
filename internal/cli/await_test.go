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
)

// importing is an import as the management API shows it.
func importing(state, why string, done, total int) map[string]any {
	v := map[string]any{"state": state, "bytesDone": float64(done), "bytesTotal": float64(total)}
	if why != "" {
		v["error"] = why
	}
	if done > 0 {
		v["bytesPerSecond"], v["etaSeconds"] = 2048., 90.
	}
	return v
}

func awaitImport(ctx context.Context, env *Env, read func() any) error {
	_, err := env.await(ctx, read(), []string{"Pending", "Running"}, "", func(context.Context) (any, error) { return read(), nil })
	return err
}

func TestWithoutATerminalALineSaysNowAndThenWhatChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		began := time.Now()
		err := awaitImport(t.Context(), &Env{Stderr: &out}, func() any {
			switch n := int(time.Since(began) / time.Second); {
			case n < 5:
				return importing("Pending", "", 0, 0)
			case n < 10:
				return importing("Running", "no such\nhost", 0, 0)
			case n < 20:
				return importing("Running", "", n<<20, 40<<20)
			case n < 60: // nothing comes
				return importing("Running", "", 20<<20, 40<<20)
			}
			return importing("Succeeded", "", 40<<20, 40<<20)
		})
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		for _, want := range []string{"waiting for its turn", "waiting for the source: no such host", "20.0 MiB of 40.0 MiB, 2.0 KiB/s, 1m30s left"} {
			if !slices.Contains(lines, want) {
				t.Errorf("%q was not said: %q", want, lines)
			}
		}
		if err != nil || len(lines) > 7 {
			t.Errorf("%v; %d lines in a minute of which half was the same: %q", err, len(lines), lines)
		}
	})
}

func TestABarSaysWhatItWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		asked := 0
		states := []map[string]any{importing("Running", "too many requests", 0, 0), importing("Running", "", 1<<20, 4<<20), importing("Succeeded", "", 4<<20, 4<<20)}
		_, err := watchSync(t.Context(), &out, progressOf(importing("Running", "", 0, 0), []string{"Running"}, ""), func(context.Context) (moment, error) {
			asked++
			return moment{status: progressOf(states[asked-1], []string{"Running"}, "")}, nil
		})
		for _, want := range []string{"asking the source", "waiting for the source: too many requests", "1.0 MiB of 4.0 MiB, 2.0 KiB/s, 1m30s left"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q was not drawn: %q", want, &out)
			}
		}
		if err != nil || strings.Contains(out.String(), "0 B of 0 B") {
			t.Errorf("%v, %q", err, &out)
		}
	})
}

func TestAWaitThatIsBrokenOffSaysThatItGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running := progressOf(importing("Running", "", 0, 0), []string{"Running"}, "")
		for name, wait := range map[string]func(context.Context) error{
			"at a bar": func(ctx context.Context) error {
				_, err := watchSync(ctx, &bytes.Buffer{}, running, func(context.Context) (moment, error) { return moment{status: running}, nil })
				return err
			},
			"between two questions": func(ctx context.Context) error {
				return awaitImport(ctx, &Env{Stderr: &bytes.Buffer{}}, func() any { return importing("Running", "", 0, 0) })
			},
			"in a question": func(ctx context.Context) error {
				_, err := (&Env{Stderr: &bytes.Buffer{}}).await(ctx, importing("Running", "", 0, 0), []string{"Running"}, "", func(ctx context.Context) (any, error) {
					<-ctx.Done()
					return nil, fmt.Errorf("reach home: %w", ctx.Err())
				})
				return err
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
