package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"ferry/internal/storage"
)

// maxChanges is how many changes one answer to a poll has at most, and how
// many of the feed are read at a time.
const maxChanges = 1000

// poll notes the report, and answers with what the caller may see of what
// changed since its cursor, at once or when there is something.
func (s *server) poll(ctx context.Context, c caller, q PollRequest) (*PollResponse, error) {
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
func (s *server) pollOnce(ctx context.Context, c caller, q PollRequest, fresh bool) (*PollResponse, error) {
	a := &PollResponse{Capability: agreed(q.Capability), Feed: s.feed, Cursor: q.Cursor}
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
	if a.Changes, err = s.visible(ctx, c, changes); err != nil || len(a.Changes) == 0 {
		return a, err
	}
	a.Changes, err = s.narrowed(ctx, c, changes, a.Changes, int(head-q.Cursor))
	return a, err
}

// agreed is the version of the protocol that both sides speak.
func agreed(theirs int) int { return min(Capability, max(1, theirs)) }

// visible returns what the caller may see and needs to know: of a tag its
// last change, of a manifest only whether it came or went by itself, without
// a tag or an index that says so.
func (s *server) visible(ctx context.Context, c caller, changes []storage.Change) ([]Change, error) {
	type subject struct{ repository, item string }
	seen := map[subject]bool{}
	var all []Change
	for _, ch := range slices.Backward(changes) {
		if ch.Kind == storage.ControlChanged || !c.mayRead(ch.Repository) {
			continue
		}
		item := subject{ch.Repository, ch.Tag}
		if ch.Tag == "" {
			item.item = string(ch.Digest)
		}
		if ch.Kind == storage.IndexChanged { // beside that it came or went
			item.item = string(ch.Kind) + item.item
		}
		if seen[item] {
			continue
		}
		seen[item] = true
		if ch.Kind == storage.ManifestAdded {
			only, err := s.storage.IsOnlyByDigest(ctx, ch.Repository, ch.Digest)
			if err != nil {
				return nil, err
			}
			if !only {
				continue
			}
		}
		all = append(all, Change{Kind: string(ch.Kind), Repository: ch.Repository, Tag: ch.Tag, Digest: ch.Digest})
	}
	slices.Reverse(all)
	return all, nil
}
