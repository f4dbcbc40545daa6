package mirror

import (
	"context"
	"fmt"
	"time"
)

// doubtPause is after how long a listing that shrank by much is read again. Only
// what both do not have is removed.
const doubtPause = 10 * time.Minute

// A doubt is that a source's listing shrank by much, which is more often a
// listing that is not whole, or an outage, than that so much was deleted. The
// zero value is none. It is lost with the process: then it begins anew.
type doubt struct {
	since time.Time
	names map[string]bool // items that are here and were not listed
}

// shrankByMuch reports whether a listing of so many items may not lose that many
// at once.
func shrankByMuch(lost, items int) bool { return lost >= 2 && (4*lost > items || lost > 100) }

// keep returns which of the lost items, of so many in all, must stay for now:
// all but those that were not listed [doubtPause] ago either, or none if those
// are few.
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

// ripe reports whether a listing that is read now may confirm the doubt.
func (d doubt) ripe(now time.Time) bool { return d.names != nil && now.Sub(d.since) >= doubtPause }

// next returns the doubt that follows d once kept items were not listed again.
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

// doubt returns what is doubted of the rule's source.
func (r *run) doubt() doubt {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.doubts[r.rule.Name]
}

// setDoubt remembers what is doubted of the rule's source, also for later runs.
func (r *run) setDoubt(d doubt) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.names == nil {
		delete(r.doubts, r.rule.Name)
	} else {
		r.doubts[r.rule.Name] = d
	}
}

// awaitConfirmation waits, without a slot, until a doubt can be confirmed, or
// until the rule is asked to run: the source may be whole again, or have more.
func (r *run) awaitConfirmation(ctx context.Context, d doubt, kept, items int) error {
	pause := doubtPause - time.Since(d.since)
	text := fmt.Sprintf("the source does not list %d of the %d tags and referrers that it had; "+
		"its list is read again at %s, before they are removed",
		kept, items, r.Now().Add(pause).UTC().Format("15:04:05 UTC"))
	r.log.Warn("mirror source lists much less than before", "missing", kept, "items", items)
	r.failure.Store(&text)
	defer r.failure.Store(nil)
	return r.pause(ctx, pause, r.again)
}
