package connected_test

import (
	"context"
	"slices"
	"sync"
	"time"

	"ferry/internal/connected"
	"ferry/internal/wire"
)

// A recorder keeps which polls were answered, and may cut answers short. The zero
// value is ready.
type recorder struct {
	mu       sync.Mutex
	answered []poll
	most     int  // how many listings an answer has; 0 is as many as the parent sends
	left     int  // answers of a pass until polls fail; 0 is any number
	broken   bool // polls fail
	stuck    bool // every answer promises more, and has nothing new
	old      bool // answers are those of a build that receives no changes
}

type poll struct {
	question wire.PollRequest
	answer   wire.PollResponse
	asked    time.Time
}

// cut makes every answer have at most n listings; 0 is no limit.
func (r *recorder) cut(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = n
}

// breakAfter makes polls fail after n answers that list every repository, until
// restore.
func (r *recorder) breakAfter(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.left = n
}

func (r *recorder) restore() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = false
}

// stick makes every answer promise more and have nothing new.
func (r *recorder) stick() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stuck, r.answered = true, nil
}

// setOld makes the parent look like a build that does, or does not, receive the changes of clients.
func (r *recorder) setOld(old bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.old = old
}

// all returns the polls that were answered.
func (r *recorder) all() []poll {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.answered)
}

// restarts returns how often a pass over all repositories began.
func (r *recorder) restarts() (n int) {
	for _, p := range r.all() {
		if p.answer.Restart {
			n++
		}
	}
	return n
}

// note keeps a poll, and returns false if it fails.
func (r *recorder) note(q wire.PollRequest, a *wire.PollResponse, asked time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.broken {
		return false
	}
	if n := r.most; n > 0 && len(a.Listings) > n {
		a.Listings, a.More = a.Listings[:n], true
		a.Cursor = a.Listings[n-1].Seq
	}
	if r.stuck {
		a.Listings, a.Restart, a.Cursor, a.More = nil, false, q.Cursor, true
	}
	if r.old {
		a.ReceivesChanges = false
	}
	r.answered = append(r.answered, poll{q, *a, asked})
	if r.left > 0 && (q.Pass > 0 || a.Restart) {
		r.left--
		r.broken = r.left == 0
	}
	return true
}

// A recorded is a parent whose answers a recorder keeps.
type recorded struct {
	connected.Parent
	recorder *recorder
}

func (p recorded) Poll(ctx context.Context, q wire.PollRequest) (*wire.PollResponse, error) {
	asked := time.Now()
	a, err := p.Parent.Poll(ctx, q)
	if err == nil && !p.recorder.note(q, a, asked) {
		return nil, errDown
	}
	return a, err
}
