package mirror

import (
	"context"
	"fmt"
	"time"
)

// confirmationPause is how long after a listing that shrank by much the source is listed again.
// Only items that are missing from both lists are removed.
const confirmationPause = 10 * time.Minute

// A suspectedLoss records that a source listed much less than before. In most cases that is
// an incomplete list or an outage, and not a deletion. The zero value is none. It is in memory
// only; after a restart, the source is listed twice again before anything is removed.
type suspectedLoss struct {
	since time.Time
	names map[string]bool // the items that are here and were not listed
}

// shrankByMuch reports whether lost, out of items, is too many to be removed at once.
func shrankByMuch(lost, items int) bool { return lost >= 2 && (4*lost > items || lost > 100) }

// keep returns the lost items that stay for now, because no list of at least
// [confirmationPause] ago lacked them. If they are few, compared with items, it returns none.
func (s suspectedLoss) keep(lost map[string]bool, items int, now time.Time) map[string]bool {
	canConfirm := s.canConfirm(now)
	rest := map[string]bool{}
	for name := range lost {
		if !canConfirm || !s.names[name] {
			rest[name] = true
		}
	}
	if !shrankByMuch(len(rest), items) {
		return nil
	}
	return rest
}

// canConfirm reports whether a list that is read now can confirm the loss.
func (s suspectedLoss) canConfirm(now time.Time) bool {
	return s.names != nil && now.Sub(s.since) >= confirmationPause
}

// next returns the suspected loss after a list that lacks the items in kept.
func (s suspectedLoss) next(kept map[string]bool, now time.Time) suspectedLoss {
	if len(kept) == 0 {
		return suspectedLoss{}
	}
	if s.names == nil || s.canConfirm(now) {
		return suspectedLoss{now, kept}
	}
	both := map[string]bool{}
	for name := range kept {
		if s.names[name] {
			both[name] = true
		}
	}
	return suspectedLoss{s.since, both}
}

// suspectedLoss returns the loss at the rule's source that is not confirmed yet.
func (r *run) suspectedLoss() suspectedLoss {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.losses[r.rule.Name]
}

// setSuspectedLoss records a suspected loss at the rule's source, for this run and later ones.
func (r *run) setSuspectedLoss(s suspectedLoss) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.names == nil {
		delete(r.losses, r.rule.Name)
	} else {
		r.losses[r.rule.Name] = s
	}
}

// awaitConfirmation waits, without a slot, until a loss can be confirmed. It returns
// earlier if somebody asks for a run of the rule, because the source may have recovered.
func (r *run) awaitConfirmation(ctx context.Context, s suspectedLoss, kept, items int) error {
	pause := confirmationPause - time.Since(s.since)
	text := fmt.Sprintf("the source does not list %d of the %d tags and referrers that it had; "+
		"its list is read again at %s, before they are removed",
		kept, items, r.Now().Add(pause).UTC().Format("15:04:05 UTC"))
	r.log.Warn("mirror source lists much less than before", "missing", kept, "items", items)
	r.failure.Store(&text)
	defer r.failure.Store(nil)
	return r.pause(ctx, pause, r.reread)
}
