package connected_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
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
	most     int      // how many listings an answer has; 0 is as many as the parent sends
	left     int      // answers of a pass until polls fail; 0 is any number
	broken   bool     // polls fail
	stuck    bool     // every answer promises more, and has nothing new
	unknown  []string // the names of fields that the parent's build does not know
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

// setEarlier makes the parent look like an earlier build, which does not know some fields of requests
// and answers.
func (r *recorder) setEarlier(unknown ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unknown = unknown
}

// fieldsUnknown returns the fields of [recorder.setEarlier].
func (r *recorder) fieldsUnknown() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.unknown
}

// earlier returns a message as a build writes and reads it that does not know some fields.
func earlier[T any](message T, unknown []string) (T, error) {
	var known T
	text, err := json.Marshal(message)
	if err != nil {
		return known, err
	}
	var fields any
	if err := json.Unmarshal(text, &fields); err != nil {
		return known, err
	}
	remove(fields, unknown)
	if text, err = json.Marshal(fields); err != nil {
		return known, err
	}
	return known, json.Unmarshal(text, &known)
}

// remove removes fields from a decoded JSON value.
func remove(value any, fields []string) {
	switch v := value.(type) {
	case []any:
		for _, element := range v {
			remove(element, fields)
		}
	case map[string]any:
		for name, element := range v {
			if slices.Contains(fields, name) {
				delete(v, name)
			}
			remove(element, fields)
		}
	}
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
	asked, unknown, sent := time.Now(), p.recorder.fieldsUnknown(), q
	if len(unknown) > 0 {
		var err error
		if sent, err = earlier(q, unknown); err != nil {
			return nil, err
		}
		sent.DesiredVersion = strings.TrimSuffix(q.DesiredVersion, versionOfEarlier)
	}
	a, err := p.Parent.Poll(ctx, sent)
	if err == nil && len(unknown) > 0 {
		a, err = earlier(a, unknown)
		if err == nil && a.Desired != nil {
			a.Desired.Version += versionOfEarlier
		}
	}
	if err == nil && !p.recorder.note(q, a, asked) {
		return nil, errDown
	}
	return a, err
}

// versionOfEarlier ends the version of a desired state of an earlier build: it is another one than that
// of the same state with all fields.
const versionOfEarlier = " of an earlier build"

func (p recorded) Activate(ctx context.Context, q wire.ActivateRequest) (*wire.ActivateResponse, error) {
	a, err := p.Parent.Activate(ctx, q)
	if unknown := p.recorder.fieldsUnknown(); err == nil && len(unknown) > 0 {
		if a, err = earlier(a, unknown); err == nil {
			a.Desired.Version += versionOfEarlier
		}
	}
	return a, err
}
