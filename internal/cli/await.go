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

// await reads v again and again while its state is one of running, and tells
// how far it is: by a bar at a terminal, else by a line now and then. prefix
// leads to the members.
func (e *Env) await(ctx context.Context, v any, running []string, prefix string, read func(context.Context) (any, error)) (any, error) {
	status := func() map[string]any { return progressOf(v, running, prefix) }
	ask := func(ctx context.Context) (_ moment, err error) {
		if v, err = read(ctx); err != nil {
			return moment{}, err
		}
		return moment{status: status()}, nil
	}
	var err error
	if isTerminal(e.Stderr) {
		_, err = watchSync(ctx, e.Stderr, status(), ask)
	} else {
		err = tellSync(ctx, e.Stderr, status(), ask)
	}
	if err != nil && ctx.Err() != nil { // whatever went wrong for that
		err = errInterrupted
	}
	return v, err
}

// progressOf makes of something whose state is one of running what a sync's
// status is; "waiting" is what it does where no bytes come.
func progressOf(v any, running []string, prefix string) map[string]any {
	s := map[string]any{}
	for _, name := range []string{"bytesDone", "bytesTotal", "bytesPerSecond", "etaSeconds"} {
		s[name] = member(v, prefix+name)
	}
	state, why := cell(member(v, prefix+"state")), cell(member(v, prefix+"error"))
	for _, r := range running {
		if state == r {
			s["state"] = "Syncing"
		}
	}
	switch {
	case state == "Pending" || state == "Waiting" || state == "BrokenOff":
		s["waiting"] = "waiting for its turn"
	case why != "":
		s["waiting"] = "waiting for the source: " + oneLine(why)
	case number(s["bytesTotal"]) == 0:
		s["waiting"] = "asking the source what there is"
	}
	return s
}

// tellSync says in plain lines how a running sync goes, until it is over:
// what changed, and not too often.
func tellSync(ctx context.Context, out io.Writer, status map[string]any, ask func(context.Context) (moment, error)) error {
	said, at := "", time.Now()
	for cell(status["state"]) == "Syncing" {
		if line := besideBar(status); line != said && time.Since(at) >= lineEvery {
			fmt.Fprintln(out, line)
			said, at = line, time.Now()
		}
		if err := pauseFor(ctx, barEvery); err != nil {
			return err
		}
		now, err := ask(ctx)
		if err != nil {
			return err
		}
		status = now.status
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
