package mirror

import (
	"context"
	"fmt"
	"time"
)

// doubtPause is how long after a listing that shrank by much the source is listed again.
// Only items that are missing from both lists are removed.
const doubtPause = 10 * time.Minute

// A doubt records that a source listed much less than before. In most cases that is an
// incomplete list or an outage, and not a deletion. The zero value is no doubt. A doubt
// is in memory only; after a restart it begins again.
type doubt struct {
	since time.Time
	names map[string]bool // the items that are here and were not listed
}

// shrankByMuch reports whether so many lost items, of a listing with so many, are too
// many to be removed at once.
func shrankByMuch(lost, items int) bool { return lost >= 2 && (4*lost > items || lost > 100) }

// keep returns the lost items, of so many in total, that must stay for now: those that
// are not confirmed by a list at least [doubtPause] ago, or none if these are few.
func (d doubt) keep(lost map[string]bool, items int, now time.Time) map[string]bool {
	ripe := d.ripe(now)
	rest := map[string]bool{}
	for name := range lost {
		if !ripe || !d.names[name] {
			rest[name] = true
		}
	}
	if !shrankByMuch(len(rest), items) {
		return nil
	}
	return rest
}

// ripe reports whether a list that is read now can confirm the doubt.
func (d doubt) ripe(now time.Time) bool { return d.names != nil && now.Sub(d.since) >= doubtPause }

// next returns the doubt after a list that lacks the items in kept.
func (d doubt) next(kept map[string]bool, now time.Time) doubt {
	if len(kept) == 0 {
		return doubt{}
	}
	if d.names == nil || d.ripe(now) {
		return doubt{now, kept}
	}
	both := map[string]bool{}
	for name := range kept {
		if d.names[name] {
			both[name] = true
		}
	}
	return doubt{d.since, both}
}

// doubt returns the current doubt about the rule's source.
func (r *run) doubt() doubt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubts[r.rule.Name]
}

// setDoubt records the doubt about the rule's source, for this run and later ones.
func (r *run) setDoubt(d doubt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.names == nil {
		delete(r.doubts, r.rule.Name)
	} else {
		r.doubts[r.rule.Name] = d
	}
}

// awaitConfirmation waits, without a slot, until a doubt can be confirmed. It returns
// earlier if somebody asks for a run of the rule, because the source may have recovered.
func (r *run) awaitConfirmation(ctx context.Context, d doubt, kept, items int) error {
	pause := doubtPause - time.Since(d.since)
	text := fmt.Sprintf("the source does not list %d of the %d tags and referrers that it had; "+
		"its list is read again at %s, before they are removed",
		kept, items, r.Now().Add(pause).UTC().Format("15:04:05 UTC"))
	r.log.Warn("mirror source lists much less than before", "missing", kept, "items", items)
	r.failure.Store(&text)
	defer r.failure.Store(nil)
	return r.pause(ctx, pause, r.reread)
}
