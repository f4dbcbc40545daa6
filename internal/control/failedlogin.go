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

// How often failed logins are logged. Strangers decide how many there are, so that the log and the
// audit log get a bounded number of entries for each sender, and for all senders together.
const (
	logPause      = 5 * time.Minute // until the next entry of the same sender
	logBurst      = 60              // entries of all senders at once
	logEvery      = time.Minute     // until all senders together may have one more entry
	maxSenders    = 4096            // senders with a recorded time
	auditTimeout  = 5 * time.Second
	maxLoggedName = 100 // bytes
)

// failedLogins decides which failed logins are logged.
type failedLogins struct {
	mu      sync.Mutex
	logged  map[string]time.Time // the time of the last entry, by sender
	all     *rate.Limiter
	skipped int // failed logins since the last entry
}

func newFailedLogins() *failedLogins {
	return &failedLogins{logged: map[string]time.Time{}, all: rate.NewLimiter(rate.Every(logEvery), logBurst)}
}

// count counts a failed login. It reports whether to log it, and how many were skipped before it.
func (f *failedLogins) count(sender string, now time.Time) (log bool, skipped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	last, ok := f.logged[sender]
	if ok && now.Sub(last) < logPause || !f.all.AllowN(now, 1) {
		f.skipped++
		return false, 0
	}
	if len(f.logged) >= maxSenders {
		clear(f.logged)
	}
	f.logged[sender] = now
	skipped, f.skipped = f.skipped, 0
	return true, skipped
}

// LoginFailed writes a refused login to the log and to the audit log, unless its sender has a
// recent entry or there are too many entries. The next entry then says how many were skipped.
func (s *Service) LoginFailed(ctx context.Context, sender, name string) {
	log, skipped := s.failed.count(sender, s.now())
	if !log {
		return
	}
	name = loggableName(name)
	s.log.Warn("login failed", "sender", sender, "name", name, "skipped", skipped)
	e := metadb.AuditEntry{At: s.now(), Sender: sender, Action: "failed-login", Object: "logins/" + name}
	if skipped > 0 {
		e.Detail = fmt.Sprintf("%d more failed since the last entry, from this sender or from others", skipped)
	}
	// The client may have disconnected already.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	if err := s.db.Update(ctx, func(tx *metadb.Tx) error { return tx.AddAudit(e, keptAudit) }); err != nil {
		s.log.Error("failed login is not audited", "err", err)
	}
}

// loggableName returns the name of a failed login in a form that is safe to log: at most
// [maxLoggedName] bytes, and no password, because people send passwords as names by mistake.
func loggableName(name string) string {
	if auth.HoldsPassword(name) {
		return "(a password)"
	}
	name = terminal.Printable(name)
	return terminal.Clip(name, maxLoggedName)
}
