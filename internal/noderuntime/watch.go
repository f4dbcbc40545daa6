package noderuntime

import (
	"context"
	"log/slog"
	"time"
)

// An Owner is the thing that a configuration belongs to, such as a DaemonSet.
type Owner interface {
	// Exists reports whether the owner exists. An error means that nobody knows.
	Exists(ctx context.Context) (bool, error)
}

// A Watch keeps the runtimes of a node configured for as long as its process runs.
type Watch struct {
	Node    *Node
	Runtime string // as for [Node.Choose]
	// Settings returns the settings, from files that may have changed since the last call.
	Settings func() (*Settings, error)
	// Owner decides whether the files are restored at the end. nil restores them.
	Owner    Owner
	Interval time.Duration // between two checks
	Log      *slog.Logger
	Report   func([]Result) // is called with every change

	runtimes []Runtime // as of asked
	asked    time.Time
}

// detectInterval is how often the runtimes are asked for their version and configuration.
const detectInterval = time.Minute

// ownerTimeout bounds the question whether the owner exists, at the end.
const ownerTimeout = 20 * time.Second

// Run configures the runtimes, again whenever the settings change or somebody changes the
// files, until ctx ends. Then it restores them, unless their owner still exists or that is not
// known. A failure is logged and tried again, because a file may not be mounted yet.
func (w *Watch) Run(ctx context.Context) error {
	failed := ""
	tick := time.NewTicker(w.Interval)
	defer tick.Stop()
	if w.Owner != nil {
		// The owner remembers that it was seen once.
		if _, err := w.Owner.Exists(ctx); err != nil {
			w.Log.Warn("the owner of the configuration was not found", "err", err)
		}
	}
	for {
		results, err := w.configure(ctx)
		switch {
		case err != nil && ctx.Err() == nil && err.Error() != failed:
			failed = err.Error()
			w.Log.Error("configure the node", "err", err)
		case err == nil:
			failed = ""
		}
		w.report(results)
		select {
		case <-ctx.Done():
			return w.end(context.WithoutCancel(ctx))
		case <-tick.C:
		}
	}
}

func (w *Watch) configure(ctx context.Context) ([]Result, error) {
	s, err := w.Settings()
	if err != nil {
		return nil, err
	}
	if err := s.Check(); err != nil {
		return nil, err
	}
	if w.runtimes == nil || time.Since(w.asked) >= detectInterval {
		if w.runtimes, err = w.Node.Choose(ctx, w.Runtime, s); err != nil {
			return nil, err
		}
		w.asked = time.Now()
	}
	return w.Node.Configure(ctx, w.runtimes, s)
}

// report reports the runtimes that were changed.
func (w *Watch) report(results []Result) {
	var changed []Result
	for _, r := range results {
		if len(r.Changes) > 0 {
			changed = append(changed, r)
		}
	}
	if len(changed) > 0 && w.Report != nil {
		w.Report(changed)
	}
}

// end restores the files if they belong to nobody any more.
func (w *Watch) end(ctx context.Context) error {
	if w.Owner != nil {
		asked, cancel := context.WithTimeout(ctx, ownerTimeout)
		exists, err := w.Owner.Exists(asked)
		cancel()
		if err != nil {
			w.Log.Warn("the files are kept, because it is not known whether their owner exists", "err", err)
			return nil
		}
		if exists {
			w.Log.Info("the files are kept, because their owner exists")
			return nil
		}
	}
	changes, err := w.Node.Restore(ctx)
	for _, c := range changes {
		w.Log.Info("restored", "path", c.Path, "action", c.Action)
		if c.Needed != "" {
			w.Log.Warn("the runtime must be told", "step", c.Needed)
		}
	}
	return err
}
