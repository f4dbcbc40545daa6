package gateway

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// maxSuspects is how many blobs a poll names at most that came with wrong content.
const maxSuspects = 16

// feedPage is how many repositories of the feed are read at a time.
const feedPage = 500

// A pollAnswer is a [wire.PollResponse] whose listings are encoded already.
type pollAnswer struct {
	wire.PollResponse
	Listings []json.RawMessage `json:"listings,omitempty"`
}

// poll notes the report, and answers with the listings that changed since the
// caller's cursor, at once or when there are any.
func (s *server) poll(ctx context.Context, c caller, q wire.PollRequest) (*pollAnswer, error) {
	if q.Report != nil && q.Report.Self.Name != c.name {
		return nil, invalid("the report is of another connected registry")
	}
	if err := checkPoll(q); err != nil {
		return nil, err
	}
	report := q.Report
	q.Report = nil // it is not held with the request
	if err := s.admission.check(); err != nil {
		return nil, err
	}
	if err := s.ControlPlane.Report(ctx, c.name, q.InstanceID, report); err != nil {
		return nil, err
	}
	if err := s.noteSuspects(ctx, c, q.Suspects); err != nil {
		return nil, err
	}
	q.Suspects = nil
	c.release()
	wait := min(time.Duration(max(q.WaitSeconds, 0))*time.Second, maxWait)
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for {
		a, err := s.pollHeld(ctx, c, &q, deadline.C)
		if a != nil || err != nil {
			return a, err
		}
		if c, err = s.again(c); err != nil {
			return nil, err
		}
	}
}

// noteSuspects passes on which blobs the caller got with wrong content, as far as they are here
// and the caller may read them.
func (s *server) noteSuspects(ctx context.Context, c caller, all []wire.Want) error {
	if len(all) > maxSuspects {
		return invalid("a poll has at most %d suspects", maxSuspects)
	}
	for _, w := range all {
		if c.barred(w.Repository) != "" {
			continue
		}
		content, _, err := s.Storage.OpenBlob(ctx, w.Repository, w.Digest)
		if e := oci.AsError(err); e != nil && e.Status < 500 {
			continue
		}
		if err != nil {
			return err
		}
		content.Close()
		s.Log.Debug("connected registry got a blob whose content is wrong", "registry", c.name, "repo", w.Repository,
			"digest", w.Digest)
		s.Suspect(w.Digest)
	}
	return nil
}

// maxPollText bounds each text of a poll, in bytes, the report's aside: the parent
// holds them.
const maxPollText = 512

// checkPoll refuses a poll with a text that is longer than any that is of use.
func checkPoll(q wire.PollRequest) error {
	texts := []string{q.Name, q.InstanceID, q.Feed, q.Subscription, q.DesiredVersion}
	if q.Page != nil {
		texts = append(texts, q.Page.Repository, q.Page.After)
	}
	for _, text := range texts {
		if len(text) > maxPollText {
			return invalid("a name, an id or a version is longer than %d bytes", maxPollText)
		}
	}
	return nil
}

// pollHeld answers a poll. Where there is nothing to tell yet it waits, and
// returns no answer once that may have changed.
func (s *server) pollHeld(
	ctx context.Context, c caller, q *wire.PollRequest, deadline <-chan time.Time,
) (*pollAnswer, error) {
	decided, version := s.ControlPlane.Changed(c.name), s.ControlPlane.Version()
	d, in, err := s.inputOf(ctx, c)
	if err != nil {
		return nil, err
	}
	in.version = version
	changed, stop := s.Storage.Watch(in.id, c.mayRead)
	defer stop()
	var a *pollAnswer
	err = s.admission.do(ctx, func() (err error) {
		a, version, err = s.pollOnce(ctx, c, *q, in)
		return err
	})
	if err != nil {
		return nil, err
	}
	if version != in.version {
		return nil, s.ControlPlane.CatchUp(ctx, version)
	}
	if d.Version != q.DesiredVersion {
		a.Desired = d
	}
	if len(a.Listings) > 0 && q.Pass == 0 && !a.Restart {
		a.SpreadSeconds = int(s.Spread() / time.Second)
	}
	if q.WaitSeconds <= 0 || q.Pass > 0 || a.Restart || a.More || len(a.Listings) > 0 || a.Desired != nil {
		return a, nil
	}
	q.Cursor, q.Since = a.Cursor, nil // what the caller may not see has moved it, too
	select {
	case <-changed:
	case <-decided:
	case <-deadline: // how far it knows of everything may have moved
		q.WaitSeconds = 0
	case <-ctx.Done():
		return a, nil
	}
	return nil, nil
}

// An input is the subscription of a caller, ready for use.
type input struct {
	id      string
	filter  subscription.Filter
	version int64 // of the control plane that it is of
}

// inputOf returns the desired state of the caller, and its subscription.
func (s *server) inputOf(ctx context.Context, c caller) (*wire.Desired, input, error) {
	d, err := s.ControlPlane.Desired(ctx, c.name)
	if err != nil {
		return nil, input{}, err
	}
	s.inputs.mu.Lock()
	known, ok := s.inputs.of[d]
	s.inputs.mu.Unlock()
	if ok {
		return d, known, nil
	}
	sub := SubscriptionOf(d.Self)
	f, err := sub.Filter()
	if err != nil {
		return nil, input{}, err
	}
	in := input{id: sub.ID(), filter: f}
	s.inputs.mu.Lock()
	defer s.inputs.mu.Unlock()
	if s.inputs.of == nil || len(s.inputs.of) >= maxInputs {
		s.inputs.of = map[*wire.Desired]input{}
	}
	s.inputs.of[d] = in
	return d, in, nil
}

// inputs are the subscriptions of desired states, which are shared as long as
// they are the same. The zero value is ready.
type inputs struct {
	mu sync.Mutex
	of map[*wire.Desired]input
}

// maxInputs is how many subscriptions are remembered.
const maxInputs = 20_000

// SubscriptionOf returns which content a connected registry gets.
func SubscriptionOf(r wire.ConnectedRegistry) subscription.Subscription {
	return subscription.Subscription{
		Permissions: r.Permissions, TagFilters: r.TagFilters, KeepLast: r.KeepLast, Platforms: r.Platforms,
	}
}

// pollOnce answers a poll from the state of the content as it is. The answer is
// of no use if version, that of the control plane at the same moment, is other
// than the subscription's.
func (s *server) pollOnce(
	ctx context.Context, c caller, q wire.PollRequest, in input,
) (a *pollAnswer, version int64, err error) {
	a = &pollAnswer{PollResponse: wire.PollResponse{
		Capability: agreed(q.Capability), Feed: s.Feed, Subscription: in.id, Cursor: q.Cursor,
	}}
	watermarks, lacking := s.Watermarks() // before the state is read that they are of
	a.Watermarks = watermarks
	for _, i := range lacking {
		if c.mayRead(i.Repository) && (i.Tag == "" || in.filter.Tags.All() || in.filter.Tags.Matches(i.Tag)) {
			a.Lacking = append(a.Lacking, i)
		}
	}
	p := &poller{server: s, caller: c, input: in, pass: q.Pass > 0, answer: a, room: s.maxListed}
	err = s.Storage.View(ctx, func(v *storage.View) error {
		p.view = v
		head, trimmed, err := v.FeedHead()
		if err != nil {
			return err
		}
		if version, err = v.ControlVersion(); err != nil || version != in.version {
			return err
		}
		if p.since = q.Cursor; q.Since != nil {
			p.since = *q.Since
		}
		known := p.since // nothing that was forgotten since then may concern the caller
		if p.pass {
			known = q.Pass
		}
		if q.Feed != s.Feed || q.Subscription != in.id || q.Cursor > head || known < trimmed {
			a.Restart, a.Head, a.Cursor = true, max(head, 1), 0
			p.first, p.pass, q.Page = true, true, nil
		}
		if q.Page != nil {
			if err := p.page(*q.Page); err != nil || a.More {
				return err
			}
		}
		return p.feed(head)
	})
	return a, version, err
}

// A poller fills one answer to a poll.
type poller struct {
	*server
	caller
	input
	view   *storage.View
	pass   bool   // every listing must be complete
	first  bool   // the answer is the first of its pass
	paged  string // the repository whose listing a page has ended
	since  int64  // up to where the caller knows everything
	answer *pollAnswer
	room   int // for items that are left
}

// page adds the rest of a complete listing, or all of it where it is other than
// the caller knows.
func (p *poller) page(at wire.Page) error {
	l := &listing{repository: at.Repository}
	if p.mayRead(at.Repository) {
		e, err := p.view.FeedEntry(at.Repository)
		if err != nil {
			return err
		}
		if l, err = p.listings.of(p.view, e, p.id, p.filter); err != nil {
			return err
		}
	}
	if l.seq != at.Seq {
		at.After = ""
	}
	w := l.page(at.After, p.maxListed)
	if p.answer.More = w.More; !w.More {
		p.paged = at.Repository
	}
	text, err := json.Marshal(w)
	p.add(text, len(w.Items))
	return err
}

// feed adds the listings of the repositories behind the answer's cursor, as many
// as there is room for, and moves the cursor.
func (p *poller) feed(head int64) error {
	a := p.answer
	for {
		entries, err := p.view.Feed(a.Cursor, feedPage)
		if err != nil {
			return err
		}
		for _, e := range entries {
			if p.room <= 0 && e.Repository != p.paged {
				a.More = true
				return nil
			}
			more, err := p.repository(e)
			if err != nil || more {
				a.More = more
				return err
			}
			a.Cursor = e.Seq
		}
		if len(entries) < feedPage {
			a.Cursor = max(a.Cursor, head) // behind what is to no repository
			return nil
		}
	}
}

// repository adds the listing of a repository, unless it is as the caller knows
// it. more is that the answer has a first page of it.
func (p *poller) repository(e storage.FeedEntry) (more bool, err error) {
	if !p.mayRead(e.Repository) || e.Repository == p.paged {
		return false, nil
	}
	l, err := p.listings.of(p.view, e, p.id, p.filter)
	if err != nil {
		return false, err
	}
	cursor := p.since
	switch {
	case p.first && len(l.items) == 0: // what a pass does not list is removed; an earlier answer may have listed it
		return false, nil
	case !p.pass && l.changed <= cursor:
		return false, nil
	case p.pass || !p.filter.Tags.All() || cursor < e.RelistSeq:
		cursor = complete
	}
	text, items, more, err := l.since(p.view, cursor, p.maxListed)
	if err != nil {
		return false, err
	}
	p.add(text, items)
	return more, nil
}

func (p *poller) add(text json.RawMessage, items int) {
	p.answer.Listings = append(p.answer.Listings, text)
	p.room -= itemCost + items
}

// agreed is the version of the protocol that both sides speak.
func agreed(theirs int) int { return min(wire.Capability, max(1, theirs)) }
