package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"ferry/internal/api"
)

const (
	// askEvery is how often something that runs is asked how far it is.
	askEvery = 500 * time.Millisecond
	// lineEvery is how often at most somebody who sees no bar is told.
	lineEvery = 3 * time.Second
)

// errInterrupted is what becomes of a wait that a person breaks off.
var errInterrupted = errors.New("interrupted; it goes on at the registry")

// A progress is how far a sync, an image, an import or a run is.
type progress struct {
	running           bool
	done, total, rate int64  // bytes, and bytes a second
	left              *int64 // seconds; nil where nobody knows
	waiting           string // what it does where no bytes come
}

// in adds to the progress of an import, or of a mirror rule's run, what its
// state says: whether it runs, and what it waits for. why is why no bytes come,
// if that is known.
func (p progress) in(state string, why *string) progress {
	switch state {
	case api.Pending, "Waiting", "BrokenOff":
		p.running, p.waiting = true, "waiting for its turn"
	case "Running":
		p.running = true
		switch {
		case value(why) != "":
			p.waiting = "waiting for the source: " + oneLine(*why)
		case p.total == 0:
			p.waiting = "asking the source what there is"
		}
	}
	return p
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
	tell := func(now moment) {
		if line := besideBar(now.all); line != said && time.Since(at) >= lineEvery {
			fmt.Fprintln(out, line)
			said, at = line, time.Now()
		}
	}
	return follow(ctx, moment{all: now}, tell, ask)
}

// follow shows a moment and asks for the next, until nothing runs any more.
func follow(
	ctx context.Context, now moment, show func(moment), ask func(context.Context) (moment, error),
) (err error) {
	for now.all.running {
		show(now)
		select {
		case <-time.After(askEvery):
		case <-ctx.Done():
			return errInterrupted
		}
		if now, err = ask(ctx); err != nil {
			return err
		}
	}
	return nil
}
