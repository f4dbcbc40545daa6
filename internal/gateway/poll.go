package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage"
	"ferry/internal/wire"
)

// maxChanges is how many changes one answer to a poll has at most, and how
// many of the feed are read at a time.
const maxChanges = 1000

// poll notes the report, and answers with what the caller may see of what
// changed since its cursor, at once or when there is something.
func (s *server) poll(ctx context.Context, c caller, q wire.PollRequest) (*wire.PollResponse, error) {
	if q.Report != nil && q.Report.Self.Name != c.name {
		return nil, problem(http.StatusBadRequest, "INVALID", "the report is of another connected registry")
	}
	if err := s.control.Report(ctx, c.name, q.InstanceID, q.Cursor, q.Report); err != nil {
		return nil, err
	}
	wait := min(time.Duration(max(q.WaitSeconds, 0))*time.Second, maxWait)
	deadline := time.After(wait)
	for fresh := true; ; fresh = false {
		changed := s.storage.Changed()
		a, err := s.pollOnce(ctx, c, q, fresh)
		if err != nil || wait == 0 || a.TakeSnapshot || a.More || len(a.Changes) > 0 || a.Desired != nil {
			return a, err
		}
		// What the caller may not see has moved its cursor, too: go on from there.
		q.Cursor = a.Cursor
		select {
		case <-changed:
		case <-deadline:
			return a, nil
		case <-ctx.Done():
			return a, nil
		}
		if c, err = s.again(c); err != nil {
			return nil, err
		}
	}
}

// pollOnce answers a poll without waiting. The desired state is looked at
// when fresh, and later only where the feed says that there may be another.
func (s *server) pollOnce(ctx context.Context, c caller, q wire.PollRequest, fresh bool) (*wire.PollResponse, error) {
	a := &wire.PollResponse{Capability: agreed(q.Capability), Feed: s.feed, Cursor: q.Cursor}
	changes, head, err := s.storage.Changes(ctx, q.Cursor, maxChanges)
	switch {
	case errors.Is(err, storage.ErrExpired), err == nil && q.Cursor == 0 && head > 0:
		a.TakeSnapshot = true
	case err != nil:
		return nil, err
	case head-q.Cursor > maxChanges:
		// What was pushed out of the newest few shows only once all that came is known.
		sc, _, err := s.scopeOf(ctx, c)
		if err != nil {
			return nil, err
		}
		a.TakeSnapshot = sc.KeepLast() > 0
	}
	fresh = fresh || a.TakeSnapshot
	if fresh || slices.ContainsFunc(changes, func(ch storage.Change) bool { return ch.Kind == storage.ControlChanged }) {
		d, err := s.control.Desired(ctx, c.name)
		if err != nil {
			return nil, err
		}
		if d.Version != q.DesiredVersion {
			a.Desired = d
		}
	}
	if a.TakeSnapshot {
		return a, nil
	}
	if n := len(changes); n > 0 {
		a.Cursor = changes[n-1].Seq
		a.More = a.Cursor < head
	}
	a.Changes, err = s.narrowed(ctx, c, changes, int(head-q.Cursor))
	if errors.Is(err, errTooMuch) {
		return &wire.PollResponse{Capability: a.Capability, Feed: a.Feed, Cursor: q.Cursor, Desired: a.Desired, TakeSnapshot: true}, nil
	}
	return a, err
}

// agreed is the version of the protocol that both sides speak.
func agreed(theirs int) int { return min(wire.Capability, max(1, theirs)) }

// A sight is the last change of a tag, or of a manifest, that a caller may see.
type sight struct {
	storage.Change
	known bool // the caller may have been told of the manifest before
}

// visible returns what the caller may see of changes, each tag and each
// manifest once.
func visible(c caller, changes []storage.Change) (all []sight) {
	seen := map[[2]string]int{}
	for _, ch := range slices.Backward(changes) {
		if ch.Kind == storage.ControlChanged || !c.mayRead(ch.Repository) {
			continue
		}
		item := itemOf(ch.Repository, ch.Tag, ch.Digest)
		if ch.Kind == storage.IndexChanged { // beside that it came or went
			item[1] = string(ch.Kind) + item[1]
		}
		i, again := seen[item]
		if !again {
			i, seen[item] = len(all), len(all)
			all = append(all, sight{Change: ch})
		}
		all[i].known = all[i].known || ch.Kind == storage.ManifestLed || ch.Kind == storage.ManifestRemoved
	}
	slices.Reverse(all)
	return all
}

// itemOf is what a tag, or a manifest without one, is told apart by.
func itemOf(repository, tag string, d digest.Digest) [2]string {
	return [2]string{repository, cmp.Or(tag, string(d))}
}
