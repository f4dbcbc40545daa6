package control

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/terminal"
)

// How often a failed login is noted. Strangers decide how many there are, so
// that both the log and the audit log get a bounded number of entries: one of a
// source at a time, and of all sources together no more than these.
const (
	notePause      = 5 * time.Minute // until a source is noted again
	noteBurst      = 60              // entries at once
	noteEvery      = time.Minute     // until there may be another one
	maxNoted       = 4096            // sources that are remembered
	noteTimeout    = 5 * time.Second
	maxNameInNotes = 100 // bytes
)

// failedLogins decides which failed logins are noted.
type failedLogins struct {
	mu      sync.Mutex
	noted   map[string]time.Time // when, by source
	all     *rate.Limiter
	unnoted int // failed logins since the last that was noted
}

func newFailedLogins() *failedLogins {
	return &failedLogins{noted: map[string]time.Time{}, all: rate.NewLimiter(rate.Every(noteEvery), noteBurst)}
}

// count counts a failed login. It reports whether to note it, and how many were
// not noted before it.
func (f *failedLogins) count(source string, now time.Time) (note bool, unnoted int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.noted[source]
	if ok && now.Sub(last) < notePause || !f.all.AllowN(now, 1) {
		f.unnoted++
		return false, 0
	}
	if len(f.noted) >= maxNoted {
		clear(f.noted)
	}
	f.noted[source] = now
	unnoted, f.unnoted = f.unnoted, 0
	return true, unnoted
}

// LoginFailed notes a login that was refused, in the log and in the audit log,
// unless its source was noted just before, or there were too many. The next entry
// then says how many were left out.
func (s *Service) LoginFailed(ctx context.Context, source, name string) {
	note, unnoted := s.failed.count(source, s.now())
	if !note {
		return
	}
	name = harmless(name)
	s.log.Warn("login failed", "source", source, "name", name, "unnoted", unnoted)
	e := metadb.AuditEntry{At: s.now(), Source: source, Action: "failed-login", Object: "logins/" + name}
	if unnoted > 0 {
		e.Detail = fmt.Sprintf("%d more failed since the last entry, from this source or from others", unnoted)
	}
	// The client may be gone before this is written.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	if err := s.db.Update(ctx, func(tx *metadb.Tx) error { return tx.AddAudit(e, keptAudit) }); err != nil {
		s.log.Error("failed login is not audited", "err", err)
	}
}

// harmless returns the form in which the log and the audit log have the name of a failed
// login: at most [maxNameInNotes] bytes, and no password, which people send as the name
// by mistake.
func harmless(name string) string {
	if auth.HoldsPassword(name) {
		return "(a password)"
	}
	name = terminal.Printable(name)
	return terminal.Clip(name, maxNameInNotes)
}
