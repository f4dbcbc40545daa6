package gateway

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"ferry/internal/oci"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/wire"
)

// maxSuspects is how many blobs with wrong content a poll names at most.
const maxSuspects = 16

// maxRecords is how many events, and how many audit entries, a poll has at most.
const maxRecords = 200

// feedPage is how many repositories of the feed are read at a time.
const feedPage = 500

// A pollAnswer is a [wire.PollResponse] whose listings are encoded already.
type pollAnswer struct {
	wire.PollResponse
	Listings []json.RawMessage `json:"listings,omitempty"`
}

// poll stores the report, and answers with the listings that changed since the
// caller's cursor. If there are none, it waits for them.
func (s *server) poll(ctx context.Context, c caller, q wire.PollRequest) (a *pollAnswer, err error) {
	if q.Report != nil && q.Report.Self.Name != c.name {
		return nil, invalid("the report is of another connected registry")
	}
	if err := checkPoll(q); err != nil {
		return nil, err
	}
	report := q.Report
	q.Report = nil // which a held request need not keep in memory
	if err := s.admission.check(); err != nil {
		return nil, err
	}
	if err := s.ControlPlane.Report(ctx, c.name, q.InstanceID, report); err != nil {
		return nil, err
	}
	if err := s.ControlPlane.ChangePasswords(ctx, c.name, sender(c.request), q.PasswordChanges); err != nil {
		return nil, err
	}
	q.PasswordChanges = nil
	if err := s.passOnSuspects(ctx, c, q.Suspects); err != nil {
		return nil, err
	}
	q.Suspects = nil
	stored, err := s.receive(ctx, c, &q)
	if err != nil {
		return nil, err
	}
	c.release()
	end := s.Polling(c.name)
	defer func() { end(err == nil && ctx.Err() == nil) }()
	wait := min(time.Duration(max(q.WaitSeconds, 0))*time.Second, maxWait)
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	h := &hold{deadline: deadline.C}
	for {
		a, err = s.pollHeld(ctx, c, &q, h)
		if a != nil {
			a.Stored = stored
		}
		if a != nil || err != nil {
			return a, err
		}
		if c, err = s.reauthenticate(c); err != nil {
			return nil, err
		}
	}
}

// receive stores the events and the audit entries of a poll. The poll is answered even if that fails:
// the child then sends them again.
func (s *server) receive(ctx context.Context, c caller, q *wire.PollRequest) (*wire.Stored, error) {
	if len(q.Events) > maxRecords || len(q.Audit) > maxRecords {
		return nil, invalid("a poll has at most %d events and %d audit entries", maxRecords, maxRecords)
	}
	if s.Receive == nil {
		return nil, nil
	}
	stored, err := s.Receive(ctx, c.name, q.Events, q.Audit)
	if err != nil {
		s.Log.Warn("events of a connected registry are not stored", "registry", c.name, "err", err)
	}
	q.Events, q.Audit = nil, nil
	return &stored, nil
}

// passOnSuspects orders that blobs are read again that the caller got with wrong content. It ignores
// blobs that are not here, and blobs that the caller may not read.
func (s *server) passOnSuspects(ctx context.Context, c caller, all []wire.Want) error {
	if len(all) > maxSuspects {
		return invalid("a poll has at most %d suspects", maxSuspects)
	}
	for _, w := range all {
		if c.whyDenied(w.Repository) != "" {
			continue
		}
		content, _, err := s.Storage.Unlocked().OpenBlob(ctx, w.Repository, w.Digest)
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

// maxPollText bounds each text of a poll, in bytes, except those of the report,
// because the parent keeps them while it holds the poll.
const maxPollText = 512

// checkPoll refuses a poll with a text that exceeds its limit.
func checkPoll(q wire.PollRequest) error {
	texts := []string{q.Name, q.InstanceID, q.Feed, q.Subscription, q.DesiredVersion, q.Locks}
	if q.Page != nil {
		texts = append(texts, q.Page.Repository, q.Page.After)
	}
	if len(q.PasswordChanges) > wire.MaxPasswordChanges {
		return invalid("a poll has at most %d changes of passwords", wire.MaxPasswordChanges)
	}
	for _, p := range q.PasswordChanges {
		texts = append(texts, p.Name, p.Hash, p.Using, p.Join, p.InstanceID)
	}
	for _, text := range texts {
		if len(text) > maxPollText {
			return invalid("a name, an id or a version is longer than %d bytes", maxPollText)
		}
	}
	return nil
}

// pollHeld answers a poll. If nothing changed, it waits for a change, and then
// returns no answer: the caller must call it again.
func (s *server) pollHeld(
	ctx context.Context, c caller, q *wire.PollRequest, h *hold,
) (*pollAnswer, error) {
	moved := s.WatermarksChanged()
	decided, version := s.ControlPlane.Changed(c.name), s.ControlPlane.Version()
	d, in, err := s.selectionOf(ctx, c)
	if err != nil {
		return nil, err
	}
	in.version, in.readWrite = version, d.Self.Mode == wire.ModeReadWrite
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
		s.watermarks.set(c.name, a)
		return a, nil
	}
	if h.news == nil && !s.watermarks.has(c.name, a) {
		h.news = time.After(watermarkPause)
	}
	q.Cursor, q.Since = a.Cursor, nil // it moved past changes that the caller may not see
	select {
	case <-changed:
	case <-decided:
	case <-moved:
	case <-h.news:
		q.WaitSeconds = 0
	case <-h.deadline:
		q.WaitSeconds = 0
	case <-ctx.Done():
		return a, nil
	}
	return nil, nil
}

// A selection is a caller's subscription, compiled to a filter.
type selection struct {
	id      string
	filter  subscription.Filter
	version int64 // of the control plane that it was compiled from
	// readWrite says that the caller's mode is ReadWrite.
	readWrite bool
}

// selectionOf returns the desired state of the caller, and its selection.
func (s *server) selectionOf(ctx context.Context, c caller) (*wire.Desired, selection, error) {
	d, err := s.ControlPlane.Desired(ctx, c.name)
	if err != nil {
		return nil, selection{}, err
	}
	s.filters.mu.Lock()
	known, ok := s.filters.of[d]
	s.filters.mu.Unlock()
	if ok {
		return d, known, nil
	}
	sub := SubscriptionOf(d.Self)
	f, err := sub.Filter()
	if err != nil {
		return nil, selection{}, err
	}
	in := selection{id: sub.ID(), filter: f}
	s.filters.mu.Lock()
	defer s.filters.mu.Unlock()
	if s.filters.of == nil || len(s.filters.of) >= maxFilters {
		s.filters.of = map[*wire.Desired]selection{}
	}
	s.filters.of[d] = in
	return d, in, nil
}

// A filterCache has the selections of desired states. The zero value is ready.
type filterCache struct {
	mu sync.Mutex
	of map[*wire.Desired]selection
}

// maxFilters is how many selections are cached.
const maxFilters = 20_000

// SubscriptionOf returns the subscription of a connected registry.
func SubscriptionOf(r wire.ConnectedRegistry) subscription.Subscription {
	return subscription.Subscription{
		Permissions: r.Permissions, TagFilters: r.TagFilters, KeepLast: r.KeepLast, Platforms: r.Platforms,
	}
}

// pollOnce answers a poll from the current content. version is the control plane's in the
// same transaction. If it differs from the selection's, the answer must not be used.
func (s *server) pollOnce(
	ctx context.Context, c caller, q wire.PollRequest, in selection,
) (a *pollAnswer, version int64, err error) {
	watermarks, lacking := s.Watermarks() // first, because they hold for the content that is read next
	lacking = slices.DeleteFunc(slices.Clone(lacking), func(i wire.OutOfSyncItem) bool {
		return !c.mayRead(i.Repository) || i.Tag != "" && !in.filter.Tags.All() && !in.filter.Tags.Matches(i.Tag)
	})
	err = s.Storage.View(ctx, func(v *storage.View) (err error) {
		a = &pollAnswer{PollResponse: wire.PollResponse{
			Capability: commonCapability(q.Capability), Feed: s.Feed, Subscription: in.id, Cursor: q.Cursor,
			Locks: true, ReceivesChanges: in.readWrite, Watermarks: watermarks, Lacking: lacking,
		}}
		p := &poller{server: s, caller: c, selection: in, view: v, pass: q.Pass > 0, answer: a, room: s.maxListed}
		version, err = p.fill(q)
		return err
	})
	return a, version, err
}

// A poller fills one answer to a poll.
type poller struct {
	*server
	caller
	selection
	view   *storage.View
	pass   bool   // every listing must be complete
	first  bool   // the answer is the first of its pass
	paged  string // the repository whose last page is in the answer
	since  int64  // the sequence number up to which the caller knows everything
	answer *pollAnswer
	room   int // how many more items the answer may have
}

// fill fills the answer to q, and returns the version of the control plane.
func (p *poller) fill(q wire.PollRequest) (version int64, err error) {
	head, trimmed, err := p.view.FeedHead()
	if err != nil {
		return 0, err
	}
	if version, err = p.view.ControlVersion(); err != nil || version != p.version {
		return version, err
	}
	if p.since = q.Cursor; q.Since != nil {
		p.since = *q.Since
	}
	known := p.since // removals after this place must still be remembered
	if p.pass {
		known = q.Pass
	}
	lacksLocks := false // that it could not record before it was updated
	if q.Locks == wire.LocksWanted {
		if lacksLocks, err = p.view.HasLocks(); err != nil {
			return version, err
		}
	}
	a := p.answer
	if q.Feed != p.Feed || q.Subscription != p.id || q.Cursor > head || known < trimmed || lacksLocks {
		a.Restart, a.Head, a.Cursor = true, max(head, 1), 0
		p.first, p.pass, q.Page = true, true, nil
	}
	if q.Page != nil {
		if err := p.page(*q.Page); err != nil || a.More {
			return version, err
		}
	}
	return version, p.feed(head)
}

// page adds the rest of a complete listing, or all of it if the listing has
// changed since the caller's page.
func (p *poller) page(at wire.Page) error {
	l := &listing{repository: at.Repository}
	if p.mayRead(at.Repository) {
		e, err := p.view.FeedEntry(at.Repository)
		if err != nil {
			return err
		}
		if l, err = p.listings.get(p.view, e, p.id, p.filter); err != nil {
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

// feed adds the listings of the repositories after the answer's cursor, as many as
// fit, and moves the cursor.
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
			a.Cursor = max(a.Cursor, head) // past changes that are of no repository
			return nil
		}
	}
}

// repository adds the listing of a repository, unless the caller knows it. It
// returns more if it added a first page.
func (p *poller) repository(e storage.FeedEntry) (more bool, err error) {
	if !p.mayRead(e.Repository) || e.Repository == p.paged {
		return false, nil
	}
	l, err := p.listings.get(p.view, e, p.id, p.filter)
	if err != nil {
		return false, err
	}
	cursor := p.since
	switch {
	case p.first && len(l.items) == 0:
		// The child removes repositories that no answer of the pass lists. So an empty listing
		// matters only after an earlier answer, which may have listed the repository.
		return false, nil
	case !p.pass && l.changed <= cursor && e.HealedSeq <= cursor:
		return false, nil
	case p.pass || !p.filter.Tags.All() || cursor < e.RelistSeq:
		cursor = complete
	}
	text, items, more, err := l.encode(p.view, cursor, p.maxListed)
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

// commonCapability returns the version of the protocol that both sides speak.
func commonCapability(theirs int) int { return min(wire.Capability, max(1, theirs)) }
