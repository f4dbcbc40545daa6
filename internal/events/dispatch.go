package events

import (
	"context"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// Limits on the deliveries of a subscriber. Beyond them, the oldest are deleted.
const (
	maxWaiting   = 10_000
	maxDead      = 1_000
	maxDelivered = 100
)

// dispatchPage is how many events are queued in one transaction.
const dispatchPage = 200

// dispatchedSetting is the name of the setting with the number of the last event that is in the
// queues.
const dispatchedSetting = "events-dispatched"

// failurePause is how long the service waits after a failure of the database.
const failurePause = 5 * time.Second

// Run records pulls, and delivers events, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.RecordPulls(ctx) })
	all.Go(func() error { return s.Deliver(ctx) })
	return all.Wait()
}

// Deliver delivers events until ctx ends. Of several processes with the same database, only one may
// do that at a time.
func (s *Service) Deliver(ctx context.Context) error {
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.superviseSubscribers(ctx) })
	all.Go(func() error { return s.dispatch(ctx) })
	return all.Wait()
}

// dispatch puts events into the queues of subscribers until ctx ends.
func (s *Service) dispatch(ctx context.Context) error {
	for ctx.Err() == nil {
		appended := s.Appended()
		more, err := s.queueEvents(ctx)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.log.Warn("events are not queued", "err", err)
			_ = retry.Sleep(ctx, failurePause, nil)
		case !more:
			select {
			case <-appended:
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// queueEvents puts the next events into the queues of those that get them. It returns true if there
// may be more.
func (s *Service) queueEvents(ctx context.Context) (more bool, err error) {
	subscribers := s.subscribers()
	if len(subscribers) == 0 {
		return false, nil
	}
	some, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]metadb.Event, error) { return undispatched(tx) })
	if err != nil || len(some) == 0 {
		return false, err
	}
	queued := map[*subscriber]bool{}
	err = s.db.Update(ctx, func(tx *metadb.Tx) error {
		clear(queued)
		if some, err = undispatched(tx); err != nil || len(some) == 0 {
			return err
		}
		for _, e := range some {
			for _, sub := range subscribers {
				if !sub.selection.selects(e) {
					continue
				}
				queued[sub] = true
				d := metadb.Delivery{
					Webhook: sub.name, Queue: sub.policy.queue(e), Event: cloudEvent(e, s.options.Source),
					QueuedAt: s.now(),
				}
				if err := tx.AddDelivery(d); err != nil {
					return err
				}
			}
		}
		for sub := range queued {
			if err := s.trim(tx, sub.name); err != nil {
				return err
			}
		}
		return tx.SetSetting(dispatchedSetting, strconv.FormatInt(some[len(some)-1].ID, 10))
	})
	for sub := range queued {
		sub.notify()
	}
	return len(some) == dispatchPage, err
}

// undispatched returns the next events that are in no queue yet.
func undispatched(tx *metadb.Tx) ([]metadb.Event, error) {
	text, err := tx.Setting(dispatchedSetting)
	if err != nil {
		return nil, err
	}
	last, _ := strconv.ParseInt(text, 10, 64) // "" is none
	return tx.EventsAfter(last, false, dispatchPage)
}

// droppedDeliveries is the counter of the deliveries of a subscriber that were dropped, because too
// many waited.
func droppedDeliveries(name string) string { return "deliveries-dropped/" + name }

// DroppedDeliveries returns how many deliveries of a subscriber were dropped.
func DroppedDeliveries(tx *metadb.Tx, name string) (int64, error) {
	return tx.Counter(droppedDeliveries(name))
}

// trim deletes the oldest deliveries of a subscriber that are too many.
func (s *Service) trim(tx *metadb.Tx, name string) error {
	dropped, err := tx.TrimDeliveries(name, metadb.Waiting, s.maxWaiting)
	if err != nil || dropped == 0 {
		return err
	}
	s.log.Warn("events for a webhook are dropped, because too many wait for it", "webhook", name, "count", dropped)
	_, err = tx.Count(droppedDeliveries(name), dropped)
	return err
}
