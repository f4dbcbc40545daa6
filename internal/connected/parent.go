package connected

import (
	"context"
	"errors"
	"time"

	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// heardEvery is how often it is written down when the parent was heard last:
// what a restart forgets is no more than that.
const heardEvery = 10 * time.Minute

// good notes that the parent answered, and reports whether the link was down
// until then.
func (a *Agent) good(ctx context.Context) (back bool) {
	now := a.now()
	a.mu.Lock()
	a.memory.Heard, a.trouble = now, nil
	age := now.Sub(a.noted)
	write := age < 0 || age >= heardEvery
	if write {
		a.noted = now
	}
	a.mu.Unlock()
	if write {
		a.remember(ctx, func(*memory) {})
	}
	return a.link.good()
}

// bad notes a failure of the link, the parent or this instance, for people at
// the site to see, and returns how long to wait before the next try.
func (a *Agent) bad(err error) time.Duration {
	pause := a.link.bad(err)
	d := wire.StatusDetail{Type: "Connection", Code: "LinkDown", Timestamp: a.now().UTC()}
	text := "the parent cannot be reached: "
	switch {
	case errors.As(err, &localError{}):
		d.Type, d.Code, text = "Sync", "SyncError", ""
	case refused(err):
		d.Code, text = "ParentRefuses", "the parent refuses this registry: "
	case errors.As(err, new(*gateway.AnswerError)):
		d.Code, text = "ParentUnwell", "the parent is not well: "
	}
	text += err.Error()
	if hint := hintFor(err); hint != "" {
		text += "; " + hint
	}
	d.Description = shortened(text)
	a.mu.Lock()
	defer a.mu.Unlock()
	if t := a.trouble; t != nil && t.Code == d.Code {
		d.Timestamp = t.Timestamp // since when it is so
	}
	a.trouble = &d
	return pause
}

// Heard returns when the parent last answered, also before a restart; zero is
// never.
func (a *Agent) Heard() time.Time { return a.recalled().Heard }
