package events

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/terminal"
)

// run delivers the queue of a subscriber until ctx ends.
func (s *Service) run(ctx context.Context, sub *subscriber) {
	backoff := retry.NewBackoff(sub.policy.firstTry, sub.policy.longest, 2)
	for ctx.Err() == nil {
		due, next, err := s.due(ctx, sub)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			s.log.Warn("deliveries are not read", "webhook", sub.name, "err", err)
			_ = retry.Sleep(ctx, failurePause, nil)
		case len(due) > 0:
			if pause := s.deliver(ctx, sub, due); pause > 0 {
				_ = retry.Sleep(ctx, max(backoff.NextBackOff(), pause), nil)
			} else {
				backoff.Reset()
			}
		case next.IsZero():
			select {
			case <-sub.queued:
			case <-ctx.Done():
			}
		default:
			_ = retry.Sleep(ctx, max(next.Sub(s.now()), time.Millisecond), sub.queued)
		}
	}
}

// due returns the deliveries that are due, or when the next one is; zero is never.
func (s *Service) due(ctx context.Context, sub *subscriber) (due []metadb.Delivery, next time.Time, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		if due, err = tx.DueDeliveries(sub.name, s.now(), sub.policy.parallel); err == nil && len(due) == 0 {
			next, err = tx.NextDelivery(sub.name)
		}
		return err
	})
	return due, next, err
}

// deliver tries deliveries at the same time, and records the outcome. If the subscriber itself is
// unwell, it returns the shortest pause until the next try of anything, at least 1.
func (s *Service) deliver(ctx context.Context, sub *subscriber, due []metadb.Delivery) (pause time.Duration) {
	var tries sync.WaitGroup
	errs := make([]error, len(due))
	for i := range due {
		tries.Go(func() {
			d := &due[i]
			status, err := sub.receiver.Deliver(ctx, d.ID, d.Event)
			d.Status, errs[i] = int64(status), err
		})
	}
	tries.Wait()
	if ctx.Err() != nil {
		return 0 // a try that was cancelled does not count
	}
	now := s.now()
	for i := range due {
		unwell := sub.policy.judge(&due[i], errs[i], now)
		if unwell {
			pause = max(pause, retry.After(errs[i]), 1)
		}
		if due[i].State == metadb.Dead {
			s.log.Warn("event is not delivered", "webhook", sub.name, "tries", due[i].Tries, "err", errs[i])
		}
	}
	err := s.db.Update(ctx, func(tx *metadb.Tx) error {
		for _, d := range due {
			if err := tx.SetDelivery(d); err != nil {
				return err
			}
		}
		if _, err := tx.TrimDeliveries(sub.name, metadb.Dead, maxDead); err != nil {
			return err
		}
		_, err := tx.TrimDeliveries(sub.name, metadb.Delivered, maxDelivered)
		return err
	})
	if err != nil && ctx.Err() == nil {
		s.log.Warn("deliveries are not written; they are made again", "webhook", sub.name, "err", err)
		pause = max(pause, failurePause)
	}
	return pause
}

// A policy says how deliveries to a subscriber are tried.
type policy struct {
	parallel int           // deliveries at a time, of different queues
	together bool          // all deliveries are in one queue, whatever they are about
	tries    int64         // that a delivery may fail if the subscriber is at fault or refuses it
	age      time.Duration // after which a delivery is given up, however often it was tried; 0 is never
	firstTry time.Duration // the pause after the first failure
	longest  time.Duration // the longest pause
	perEvent bool          // a refused event stops only its own queue
}

var (
	webhookPolicy = policy{
		parallel: 4, tries: 10, age: 24 * time.Hour, firstTry: time.Second, longest: 15 * time.Minute, perEvent: true,
	}
	hookPolicy = policy{parallel: 1, together: true, tries: 3, firstTry: 5 * time.Second, longest: time.Minute}
)

// queue returns the queue of an event.
func (p policy) queue(e metadb.Event) string {
	if p.together {
		return ""
	}
	return e.Registry + "/" + e.Repository
}

// judge writes the outcome of a try to the delivery. It returns true if the subscriber is unwell, so
// that all its deliveries must wait.
func (p policy) judge(d *metadb.Delivery, err error, now time.Time) (unwell bool) {
	d.Tries, d.TriedAt, d.Error = d.Tries+1, now, ""
	if err == nil {
		d.State = metadb.Delivered
		return false
	}
	d.Error = clip(err.Error())
	refused := errors.As(err, new(*Refusal))
	final := errors.Is(err, errGone)
	if final || (refused || p.age == 0) && d.Tries >= p.tries || p.age > 0 && now.Sub(d.QueuedAt) >= p.age {
		d.State = metadb.Dead
		return false
	}
	if refused && p.perEvent {
		d.NextAt = now.Add(p.pauseAfter(d.Tries))
		return false
	}
	d.NextAt = now
	return true
}

// pauseAfter returns the pause after a number of tries of the same event.
func (p policy) pauseAfter(tries int64) time.Duration {
	pause := p.firstTry
	for range min(tries-1, 30) {
		if pause *= 2; pause >= p.longest {
			return p.longest
		}
	}
	return pause
}

// A Refusal is an error of a delivery that another try of the same event would get again.
type Refusal struct {
	Status int
	Text   string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Text }

// StatusCode returns the HTTP status of the answer.
func (r *Refusal) StatusCode() int { return r.Status }

func statusText(status int) string { return "the endpoint answered " + strconv.Itoa(status) }

// maxErrorText bounds an error in the database, in bytes.
const maxErrorText = 500

func clip(text string) string { return terminal.Clip(terminal.Printable(text), maxErrorText) }
