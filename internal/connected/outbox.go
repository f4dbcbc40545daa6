package connected

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/opencontainers/go-digest"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/storage"
	"ferry/internal/subscription"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

// retryRefusedEvery is how often changes are sent again that the parent refused. They are also sent
// again when the parent lists something, or when a window opens.
const retryRefusedEvery = 5 * time.Minute

// The first pause after an error in the middle of a send, and how much longer each next one is. They are short:
// the longer a site waits while a link that is cut often is up, the more cuts there are until everything is sent,
// and each of them loses the bytes on the link.
const (
	sendPause       = 100 * time.Millisecond
	sendPauseFactor = 1.3
)

// errOutboxChanged is the cause with which this registry ends a poll that the parent holds, because the
// next poll must report what became of clients' changes.
var errOutboxChanged = errors.New("clients' changes were sent or refused")

// sendChanges sends the changes that clients make here to the parent, until ctx ends. It runs beside
// the polls and the syncs of a session, and each of them may fail alone.
func (s *session) sendChanges(ctx context.Context) {
	pauses := retry.NewBackoff(sendPause, linkMaxPause, sendPauseFactor)
	var retried time.Time // when refused changes were last tried again
	for ctx.Err() == nil {
		if age := s.now().Sub(retried); age < 0 || age >= retryRefusedEvery {
			s.retryRefused(ctx)
			retried = s.now()
		}
		changed, wakeup := s.options.Storage.OutboxChanged(), s.awaitWakeup() // first, so that none is missed
		progress, err := s.sendOnce(ctx)
		if progress {
			pauses.Reset()
			s.tell()
		}
		if err == nil {
			s.awaitChange(ctx, changed, wakeup)
			continue
		}
		if errors.Is(err, errPaused) || errors.Is(err, errBudgetSpent) {
			s.awaitChange(ctx, nil, wakeup)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("changes are not sent; the next try resumes at the same byte", "err", err)
		wake, pause := s.answers, max(pauses.NextBackOff(), retry.After(err))
		if retry.Answered(err) { // the link is up: that it is up is no reason to try again
			wake, pause = nil, max(pause, linkPause)
		}
		retry.Sleep(ctx, pause, wake)
	}
}

// awaitChange waits until changes may be due: a client made one, the parent answered a poll, somebody
// asked for a sync, or refused changes may be tried again.
func (s *session) awaitChange(ctx context.Context, changed, wakeup <-chan struct{}) {
	timer := time.NewTimer(retryRefusedEvery)
	defer timer.Stop()
	select {
	case <-changed:
	case <-wakeup:
		s.retryRefused(ctx)
	case <-s.answers:
	case <-timer.C:
	case <-ctx.Done():
	}
}

// sendOnce sends all changes that are due. It reports whether anything new must be reported.
func (s *session) sendOnce(ctx context.Context) (progress bool, err error) {
	sending, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	wanted, err := s.beginSend(sending, cancel)
	if err != nil {
		return false, err
	}
	defer s.endSend()
	result, err := s.outbox.Send(sending, wanted)
	if sending.Err() != nil && ctx.Err() == nil {
		err = context.Cause(sending)
	}
	if result.Changed() {
		s.log.Info("changes are sent", "sent", result.Sent, "refused", result.Refused, "conflicts", result.Conflicts,
			"bytes", result.Bytes)
		s.notifyWatermarks()
	}
	return result.Changed() || result.Bytes > 0, err
}

// tell makes the next poll due, so that it reports the changes that were sent or refused.
func (s *session) tell() {
	select {
	case s.sendProgress <- struct{}{}:
	default:
	}
}

// parentHeard tells the sender that the parent answered a poll, whose desired state is applied.
func (s *session) parentHeard(ctx context.Context, a *wire.PollResponse) {
	if s.setReceives(a.ReceivesChanges) {
		s.tell()
	}
	if a.Desired != nil || len(a.Listings) > 0 { // locks or rights may have changed
		s.retryRefused(ctx)
	}
	select {
	case s.answers <- struct{}{}:
	default:
	}
}

// setReceives records whether the parent receives changes, and reports whether the status has changed.
func (a *Agent) setReceives(receives bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.notReceiving
	a.receives = receives
	if receives || a.state.Self.Mode != wire.ModeReadWrite {
		a.notReceiving = time.Time{}
	} else if before.IsZero() {
		a.notReceiving = a.now()
	}
	return !a.notReceiving.Equal(before)
}

// tooOldDetail returns the status detail that the parent does not receive changes; nil if it does.
func (a *Agent) tooOldDetail() *wire.StatusDetail {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.notReceiving.IsZero() {
		return nil
	}
	return &wire.StatusDetail{
		Type: "Sync", Code: wire.ParentTooOld, Timestamp: a.notReceiving.UTC(),
		Description: "the parent runs an older build, which does not receive what clients push here: it is kept, and " +
			"sent once the parent is updated; update the parent",
	}
}

func (s *session) retryRefused(ctx context.Context) {
	if err := s.options.Storage.RetryRefused(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("refused changes are not tried again", "err", err)
	}
}

// beginSend registers a send, which stop ends, and returns the repositories whose changes may be sent:
// none if the parent receives no changes, and only urgent ones if the byte budget is spent. The error
// is [errPaused] if syncs are paused.
func (a *Agent) beginSend(ctx context.Context, stop context.CancelCauseFunc) (func(repository string) bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state.Paused {
		return nil, errPaused
	}
	spent, _ := a.state.budgetSpent(a.now())
	priorities := a.state.priorities()
	if spent && !priorities.AnyUrgent() {
		return nil, errBudgetSpent
	}
	a.stopSend, a.sendsUrgentOnly = stop, spent
	receives := a.receives
	return func(repository string) bool {
		return receives && (!spent || priorities.Of(repository) == subscription.Urgent)
	}, context.Cause(ctx)
}

func (a *Agent) endSend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stopSend, a.sendsUrgentOnly = nil, false
}

// Resolve ends the conflicts of an item. With Discard it gives up the item's change that was not sent
// yet: the next sync makes the item as it is at the parent.
func (a *Agent) Resolve(ctx context.Context, q api.SyncResolvePost, note storage.Note) (api.SyncResolved, error) {
	if a.options.Storage == nil {
		return api.SyncResolved{}, nil
	}
	conflicts, discarded, err := a.options.Storage.Resolve(ctx, q.Repository, q.Item, q.Discard, note)
	done := api.SyncResolved{Conflicts: int(conflicts)}
	if discarded {
		done.Discarded = 1
	}
	if err == nil && (discarded || conflicts > 0) {
		a.log.Info("resolved", "repo", q.Repository, "item", q.Item, "discarded", discarded)
		a.wake() // the next session looks at everything again
	}
	return done, err
}

// limitSent returns a reader of content that keeps to the bandwidth cap, and counts for the byte
// budget.
func (a *Agent) limitSent(ctx context.Context, r io.Reader) io.Reader {
	return &limitedReader{r, ctx, a}
}

// addBacklog adds what is to be sent to a status, and what became of changes.
func (a *Agent) addBacklog(ctx context.Context, s *wire.Status) error {
	if a.outbox == nil {
		return nil
	}
	b, err := a.outbox.Backlog(ctx)
	if err != nil {
		return err
	}
	s.ItemsToSend, s.BytesToSend = b.Items, b.Bytes
	var details []wire.StatusDetail
	err = a.options.DB.View(ctx, func(tx *metadb.Tx) error {
		if details, err = conflictDetails(tx); err != nil || b.Refused == 0 {
			return err
		}
		refused, err := tx.Outbox(metadb.Failed, 0, 1)
		for _, r := range refused {
			details = append(details, wire.StatusDetail{
				Type: "Sync", Code: wire.ChangesRefused, Timestamp: r.ChangedAt.UTC(),
				Description: clipDetail(fmt.Sprintf("changes made here that cannot be sent: %d; %s %s: %s", b.Refused,
					r.Repository, r.Item, r.Error)),
			})
		}
		return err
	})
	if d := a.tooOldDetail(); d != nil {
		details = append(details, *d)
	}
	if len(details) > 0 {
		s.Details = append(s.Details[:len(s.Details):len(s.Details)], details...)
		if s.State == stateOnline {
			s.State = stateUnhealthy
		}
	}
	return err
}

// maxConflicts is how many conflicts a report has, apart from their number.
const maxConflicts = 5

// conflictDetails returns the details on the conflicts that a person has not resolved yet.
func conflictDetails(tx *metadb.Tx) (details []wire.StatusDetail, err error) {
	all, err := tx.Conflicts(maxConflicts)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	for _, c := range all {
		details = append(details, wire.StatusDetail{
			Type: "Sync", Code: wire.Conflict, Timestamp: c.FoundAt.UTC(), Description: clipDetail(conflictText(c)),
		})
	}
	n, err := tx.CountConflicts()
	if n > len(all) {
		details = append(details, wire.StatusDetail{
			Type: "Sync", Code: wire.Conflict, Timestamp: all[0].FoundAt.UTC(),
			Description: fmt.Sprintf("%d tags were changed both here and at the parent", n),
		})
	}
	return details, err
}

// conflictText says in words what both registries did with a tag, and what a person can do.
func conflictText(c storage.Conflict) string {
	name := c.Repository + ":" + c.Tag
	parent := "the parent changed it to " + c.ParentDigest
	if c.ParentDigest == "" {
		parent = "the parent removed it"
	}
	if c.Digest == "" {
		return fmt.Sprintf("%s was removed here, and %s, which holds; remove it at the root, or accept that: "+
			"ferry sync resolve --image %s", name, parent, name)
	}
	return fmt.Sprintf("%s was changed here to %s, and %s, which holds; the image of this registry is kept as %s: "+
		"delete that tag at the root, or keep it: ferry sync resolve --image %s", name, c.Digest, parent, c.KeptAs,
		name)
}

// unsentItems returns up to limit items that clients changed here, and that were not sent yet.
func (a *Agent) unsentItems(tx *metadb.Tx, limit int) (all []wire.OutOfSyncItem, err error) {
	if a.outbox == nil {
		return nil, nil
	}
	rows, err := tx.HeldSyncItems(limit)
	for i := 0; i < len(rows) && err == nil; i++ {
		var item wire.OutOfSyncItem
		item, err = unsentItem(tx, rows[i])
		all = append(all, item)
	}
	return all, err
}

// unsentItem returns a held row as a report has it.
func unsentItem(tx *metadb.Tx, row metadb.SyncItem) (wire.OutOfSyncItem, error) {
	i, err := itemOf(tx, row)
	if err != nil {
		return i, err
	}
	i.Unsent = true
	change, err := tx.OutboxItem(row.Repository, row.Item)
	if errors.Is(err, metadb.ErrNotFound) {
		return i, nil
	}
	i.Error = terminal.Clip(change.Error, maxItemError)
	if row.Tag == "" {
		i.Digest, i.Here = digest.Digest(row.Item), digest.Digest(change.Digest)
	}
	return i, err
}
