package cli

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// await reads v again and again while its state is one of running, and lets
// somebody at a terminal see how far it is. prefix leads to the members.
func (e *Env) await(ctx context.Context, v any, running []string, prefix string, read func(context.Context) (any, error)) (any, error) {
	status := func() map[string]any {
		s := map[string]any{"bytesDone": member(v, prefix+"bytesDone"), "bytesTotal": member(v, prefix+"bytesTotal")}
		for _, state := range running {
			if cell(member(v, prefix+"state")) == state {
				s["state"] = "Syncing"
			}
		}
		return s
	}
	said := ""
	ask := func(ctx context.Context) (_ moment, err error) {
		if v, err = read(ctx); err != nil {
			return moment{}, err
		}
		s := status()
		if why := cell(member(v, prefix+"error")); why != said && s["state"] != nil {
			if said = why; why != "" {
				fmt.Fprintf(e.Stderr, "waiting for the source: %s\n", why)
			}
		}
		return moment{status: s}, nil
	}
	if isTerminal(e.Stderr) {
		_, err := watchSync(ctx, e.Stderr, status(), ask)
		return v, err
	}
	for s := status(); s["state"] != nil; {
		if err := pauseFor(ctx, barEvery); err != nil {
			return nil, err
		}
		now, err := ask(ctx)
		if err != nil {
			return nil, err
		}
		s = now.status
	}
	return v, nil
}

func pauseFor(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errors.New("interrupted; it goes on at the registry")
	}
}
