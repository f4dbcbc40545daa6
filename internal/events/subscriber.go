package events

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"ferry/internal/metadb"
	"ferry/internal/retry"
)

// A Receiver is what a subscriber's events are delivered to: an endpoint or a program.
type Receiver interface {
	// Deliver delivers an event once. The status is that of the answer; 0 is none.
	Deliver(ctx context.Context, id int64, event json.RawMessage) (status int, err error)
}

// A Local is a subscriber of this instance's own events, in its settings.
type Local struct {
	Name     string // LocalWebhook or LocalHook
	Endpoint string // for people
	Receiver Receiver
}

// Locals returns the local subscribers.
func (s *Service) Locals() []Local { return s.options.Local }

// Wake makes the subscriber name look at its queue.
func (s *Service) Wake(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sub := s.running[name]; sub != nil {
		sub.notify()
	}
}

// The names of local subscribers. No webhook of an operator has them.
const (
	LocalWebhook = "local-webhook"
	LocalHook    = "local-hook"
)

// LocalTypes are the types of events that local subscribers get.
func LocalTypes() []string { return []string{Complete, Failed, FirstPull} }

// A subscriber gets events through a queue in the database.
type subscriber struct {
	name      string
	version   int64 // of the webhook's row
	receiver  Receiver
	selection Selection
	policy    policy
	queued    chan struct{} // has an element when deliveries were queued
	stop      context.CancelFunc
	done      chan struct{}
}

func (s *subscriber) notify() {
	select {
	case s.queued <- struct{}{}:
	default: // it knows already
	}
}

// subscribers returns those that run now.
func (s *Service) subscribers() []*subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.running))
}

// SubscribersChanged makes the service read the webhooks again. It is called after a change of one.
func (s *Service) SubscribersChanged() { s.changed.Notify() }

// superviseSubscribers runs a goroutine for each enabled webhook and each local subscriber, until ctx
// ends.
func (s *Service) superviseSubscribers(ctx context.Context) error {
	defer func() {
		for _, sub := range s.subscribers() {
			<-sub.done
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		clear(s.running) // the service may run again
	}()
	for ctx.Err() == nil {
		changed := s.changed.Wait()
		err := s.reconcile(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("webhooks are not read", "err", err)
			_ = retry.Sleep(ctx, failurePause, changed)
			continue
		}
		s.appended.Notify() // new subscribers may get events that are recorded already
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
	return nil
}

// wanted returns the subscribers that the database and the settings have, by name.
func (s *Service) wanted(ctx context.Context) (map[string]*subscriber, error) {
	wanted := map[string]*subscriber{}
	for _, l := range s.options.Local {
		after, err := s.localStart(ctx, l.Name)
		if err != nil {
			return nil, err
		}
		sub := &subscriber{name: l.Name, receiver: l.Receiver, policy: webhookPolicy}
		sub.selection = Selection{Types: LocalTypes(), Registries: []string{s.self()}, After: after}
		if l.Name == LocalHook {
			sub.policy = hookPolicy
		}
		wanted[l.Name] = sub
	}
	rows, err := metadb.Read(ctx, s.db, (*metadb.Tx).Webhooks)
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		if sub := s.subscriberOf(row); sub != nil {
			wanted[sub.name] = sub
		}
	}
	return wanted, nil
}

// reconcile starts and stops subscribers, so that those run that the database and the settings have.
func (s *Service) reconcile(ctx context.Context) error {
	wanted, err := s.wanted(ctx)
	if err != nil {
		return err
	}
	s.setSelections(wanted)
	s.mu.Lock()
	var stopped []*subscriber
	for name, sub := range s.running {
		if w := wanted[name]; w == nil || w.version != sub.version {
			sub.stop()
			stopped = append(stopped, sub)
			delete(s.running, name)
		}
	}
	s.mu.Unlock()
	for _, sub := range stopped {
		<-sub.done
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, sub := range wanted {
		if s.running[name] != nil {
			continue
		}
		var own context.Context
		own, sub.stop = context.WithCancel(ctx)
		sub.queued, sub.done = make(chan struct{}, 1), make(chan struct{})
		s.running[name] = sub
		go func() {
			defer close(sub.done)
			s.run(own, sub)
		}()
	}
	return nil
}

// self returns the name of this instance in selections.
func (s *Service) self() string {
	if s.options.Registry == "" {
		return ThisInstance
	}
	return s.options.Registry
}

// setSelections records which events of this instance somebody here gets.
func (s *Service) setSelections(wanted map[string]*subscriber) {
	all := []Selection{}
	for _, sub := range wanted {
		all = append(all, sub.selection)
	}
	s.own.Store(&all)
}

// localStart returns the number of the last event before a local subscriber was first set.
func (s *Service) localStart(ctx context.Context, name string) (after int64, err error) {
	err = s.db.Update(ctx, func(tx *metadb.Tx) error {
		setting := "events-after/" + name
		text, err := tx.Setting(setting)
		if err == nil && text == "" {
			if after, err = tx.LastEvent(); err == nil {
				err = tx.SetSetting(setting, strconv.FormatInt(after, 10))
			}
			return err
		}
		after, _ = strconv.ParseInt(text, 10, 64)
		return err
	})
	return after, err
}
