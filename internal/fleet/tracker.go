package fleet

import (
	"slices"
	"sync"

	"ferry/internal/control"
	"ferry/internal/storage"
)

// A tracker knows which descendants are outdated: something changed here that they do not know of.
// It looks only at changes since it looked last: of the content, of the control plane, and of the
// watermarks in the reports. A request costs it the same whether there is much content or little.
type tracker struct {
	mu    sync.Mutex
	head  int64 // of the feed, when it looked last
	state *control.State
	below []*control.Registry // the descendants in that state, parents first
	of    map[string]*tracked
	// backlogs are those of repositories as they were at the last look.
	backlogs map[backlogKey]*backlog
}

// A tracked is what the tracker knows of one descendant.
type tracked struct {
	*subscriptionPath
	watermark int64
	version   int64 // of the control plane for which the path was checked
	unheard   unheard
	phase     phase
	due       dueCache
	place     int // in the standings that were made last
}

// refresh brings the tracker to the content of a view, and records since when each descendant is not
// equal to its parent.
func (s *Service) refresh(c *storage.View) error {
	s.tracker.mu.Lock()
	defer s.tracker.mu.Unlock()
	return s.refreshLocked(c)
}

func (s *Service) refreshLocked(c *storage.View) error {
	t, state := &s.tracker, s.control.State()
	if t.state != state {
		t.state, t.below = state, state.Below(s.control.Self())
	}
	head, err := s.lookAt(c, state, t.below)
	if err != nil {
		return err
	}
	if t.head = max(t.head, head); len(t.of) > len(t.below) {
		for name, row := range t.of {
			if row.version != state.Version() {
				delete(t.of, name)
			}
		}
	}
	return nil
}

// lookAt brings the tracker's rows of some descendants to the present, and returns the feed's head.
func (s *Service) lookAt(
	c *storage.View, state *control.State, some []*control.Registry,
) (head int64, err error) {
	t := &s.tracker
	cache, err := newRequestCache(c)
	if err != nil {
		return 0, err
	}
	cache.entries, cache.backlogs, cache.unheard = map[string]storage.FeedEntry{}, t.backlogs, map[unheardKey]unheard{}
	fresh := map[string]bool{} // the patterns of repositories that changed since the last look at all
	if cache.head > t.head {
		entries, err := cache.changedSince(c, t.head)
		if err != nil {
			return 0, err
		}
		for _, entry := range entries {
			for pattern := range patternsOf(entry.Repository) {
				fresh[pattern] = true
			}
		}
	}
	for _, r := range some {
		if err := s.look(c, state, r, cache, fresh); err != nil {
			return 0, err
		}
	}
	return cache.head, nil
}

// look brings the tracker's row of one descendant to the present.
func (s *Service) look(
	c *storage.View, state *control.State, r *control.Registry, cache *requestCache, fresh map[string]bool,
) error {
	row := s.tracker.of[r.Name]
	if row == nil {
		row = &tracked{}
		s.tracker.of[r.Name] = row
	}
	due := false
	if row.version != state.Version() {
		if path := s.pathTo(state, r); row.subscriptionPath == nil || !row.isOf(state, path) {
			p, err := newSubscriptionPath(state, path)
			if err != nil {
				return err
			}
			row.subscriptionPath, row.phase, row.due, due = p, phase{}, dueCache{}, true
		}
		row.version = state.Version()
	}
	last := s.reports.at(r.Name)
	if last.Status.Watermarks[s.control.InstanceID()] > cache.head && row.watermark > 0 {
		return nil // the view is older than the report: the next look decides
	}
	if w := s.watermarkOf(last.Status, cache.head); w != row.watermark {
		row.watermark, due = w, true
	}
	if due || len(fresh) > 0 && slices.ContainsFunc(row.patterns, func(pattern string) bool { return fresh[pattern] }) {
		v := s.descendantOn(row.subscriptionPath, state, r, cache)
		u, err := v.unheardBy(c)
		if err != nil {
			row.version = 0 // the row is looked at again
			return err
		}
		row.unheard = u
	}
	s.reports.settle(r.Name, !row.unheard.any && hasAll(last.Status), s.now())
	return nil
}
