package control

import "ferry/internal/metadb"

// maxRecentRows bounds the rows of the recent writes.
const maxRecentRows = 10_000

// recentWrites are the rows that the last writes changed, the oldest write first.
type recentWrites struct {
	all  []recentWrite
	rows int // in all of them
}

// A recentWrite made the state of one version from that of another.
type recentWrite struct {
	from, to int64
	rows     []metadb.ControlRow
}

// add adds a write, and forgets the oldest ones if there are too many.
func (w *recentWrites) add(from, to int64, rows []metadb.ControlRow) {
	if n := len(w.all); n > 0 && w.all[n-1].to != from {
		*w = recentWrites{}
	}
	w.all = append(w.all, recentWrite{from, to, rows})
	for w.rows += len(rows); w.rows > maxRecentRows; w.all = w.all[1:] {
		w.rows -= len(w.all[0].rows)
	}
}

// RowsSince returns the rows in which the current state may differ from that of an earlier version. ok
// is false if they are not known any more.
func (s *Service) RowsSince(version int64) (rows []metadb.ControlRow, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if version == s.state.Load().version {
		return nil, true
	}
	for _, w := range s.recent.all {
		if ok = ok || w.from == version; ok {
			rows = append(rows, w.rows...)
		}
	}
	return rows, ok
}
