package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// lineEvery is how often at most somebody who sees no bar is told how far
// something is.
const lineEvery = 3 * time.Second

// errInterrupted is what becomes of a wait that a person breaks off.
var errInterrupted = errors.New("interrupted; it goes on at the registry")

// A progress is how far a sync, an image, an import or a run is.
type progress struct {
	running           bool
	done, total, rate int64  // bytes, and bytes a second
	left              *int64 // seconds; nil where nobody knows
	waiting           string // what it does where no bytes come
}

// waitsForTurn is what something does that has not begun.
const waitsForTurn = "waiting for its turn"

// waitsForSource is what something does that has no bytes to bring yet, or
// cannot get on because of why; "" is that bytes come.
func waitsForSource(total int64, why *string) string {
	switch {
	case value(why) != "":
		return "waiting for the source: " + oneLine(*why)
	case total == 0:
		return "asking the source what there is"
	}
	return ""
}

// await reads v again and again while it runs, and tells how far it is: by a
// bar at a terminal, else by a line now and then.
func await[T any](
	ctx context.Context, e *Env, v result[T], of func(T) progress, read func(context.Context) (result[T], error),
) (result[T], error) {
	ask := func(ctx context.Context) (_ moment, err error) {
		if v, err = read(ctx); err != nil {
			return moment{}, err
		}
		return moment{all: of(v.value)}, nil
	}
	watch := tellSync
	if isTerminal(e.Stderr) {
		watch = watchSync
	}
	err := watch(ctx, e.Stderr, of(v.value), ask)
	if err != nil && ctx.Err() != nil { // whatever went wrong for that
		err = errInterrupted
	}
	return v, err
}

// tellSync says in plain lines how something that runs goes, until it is over:
// what changed, and not too often.
func tellSync(ctx context.Context, out io.Writer, now progress, ask func(context.Context) (moment, error)) error {
	said, at := "", time.Now()
	for now.running {
		if line := besideBar(now); line != said && time.Since(at) >= lineEvery {
			fmt.Fprintln(out, line)
			said, at = line, time.Now()
		}
		if err := pauseFor(ctx, barEvery); err != nil {
			return err
		}
		next, err := ask(ctx)
		if err != nil {
			return err
		}
		now = next.all
	}
	return nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errInterrupted
	}
}
