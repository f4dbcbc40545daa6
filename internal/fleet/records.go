package fleet

import (
	"context"
	"slices"
	"strings"
	"sync"

	"golang.org/x/time/rate"

	"ferry/internal/control"
	"ferry/internal/events"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// A child may send recordRate events and audit entries a second, after recordBurst. More wait in the
// child.
const (
	recordRate  = 50
	recordBurst = 5000
)

// keptAuditOfOne is how many entries of the audit log of each connected registry are kept.
const keptAuditOfOne = 5_000

// An EventReceiver records events of descendants; [events.Service] implements it.
type EventReceiver interface {
	Receive(tx *metadb.Tx, e metadb.Event) error
}

// recordLimits bound how many events and audit entries children send.
type recordLimits struct {
	mu sync.Mutex
	of map[string]*rate.Limiter // by child in lower case
}

// allow returns how many of n records of a child may be stored now.
func (l *recordLimits) allow(s *Service, child string, n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	child = strings.ToLower(child)
	if l.of[child] == nil {
		if l.of == nil || len(l.of) > s.control.State().Count() {
			l.of = map[string]*rate.Limiter{} // some are of deleted connected registries
		}
		l.of[child] = rate.NewLimiter(recordRate, recordBurst)
	}
	limiter, now := l.of[child], s.now()
	n = max(min(n, int(limiter.TokensAt(now))), 0)
	limiter.AllowN(now, n)
	return n
}

// Receive stores events and audit entries that a child sent, of itself and its descendants, and
// returns how many of the first of each need not be sent again. It ignores those that are not valid,
// or of other connected registries. Implements [gateway.ServerOptions].
func (s *Service) Receive(
	ctx context.Context, child string, all []wire.Event, audit []wire.AuditEntry,
) (stored wire.Stored, err error) {
	if len(all)+len(audit) == 0 || s.events == nil {
		return stored, nil
	}
	allowed := s.records.allow(s, child, len(all)+len(audit))
	all = all[:min(len(all), allowed)]
	audit = audit[:min(len(audit), allowed-len(all))]
	sender := s.senders(child)
	var rows []metadb.Event
	for _, e := range all {
		if r := sender.find(e.Registry); r != nil {
			if row, ok := events.FromWire(e, r.Name, s.now()); ok {
				rows = append(rows, row)
			}
		}
	}
	var entries []metadb.AuditEntry
	written := map[string]bool{}
	for _, e := range audit {
		if r := sender.find(e.Registry); r != nil && r.Settings.AuditLogs {
			if row, ok := events.AuditFromWire(e, r.Name, s.now()); ok {
				entries, written[r.Name] = append(entries, row), true
			}
		}
	}
	if len(rows)+len(entries) > 0 {
		err = s.db.Update(ctx, func(tx *metadb.Tx) error {
			for _, row := range rows {
				if err := s.events.Receive(tx, row); err != nil {
					return err
				}
			}
			for _, row := range entries {
				if err := tx.AddAuditOf(row); err != nil {
					return err
				}
			}
			for name := range written {
				if err := tx.TrimAudit(name, keptAuditOfOne); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return stored, err
	}
	return wire.Stored{Events: len(all), Audit: len(audit)}, nil
}

// senders are the connected registries whose records a child may send.
type senders struct {
	state *control.State
	child *control.Registry
}

func (s *Service) senders(child string) senders {
	state := s.control.State()
	r, err := s.child(state, child)
	if err != nil {
		r = nil
	}
	return senders{state, r}
}

// find returns the connected registry name if it is the child or a descendant of it; nil otherwise.
func (s senders) find(name string) *control.Registry {
	r := s.state.Registry(name)
	if r == nil || s.child == nil || r != s.child && !slices.Contains(s.state.Ancestors(r.Parent), s.child) {
		return nil
	}
	return r
}
