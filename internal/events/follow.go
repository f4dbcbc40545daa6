package events

import (
	"slices"

	"ferry/internal/metadb"
)

// Follow brings this instance to the webhooks that tx sees, and to the events and deliveries that wait
// there, after other processes have made changes.
func (s *Service) Follow(tx *metadb.Tx, c metadb.Changes) error {
	if c.Has(metadb.WebhookTopic) {
		rows, err := tx.Webhooks()
		if err != nil {
			return err
		}
		all := slices.Clone(s.locals)
		for _, row := range rows {
			if spec, err := SpecOf(row); err == nil && spec.Enabled {
				all = append(all, spec.selection())
			}
		}
		s.own.Store(&all)
		s.SubscribersChanged()
		for _, sub := range s.subscribers() {
			sub.notify()
		}
	}
	if c.Has(metadb.EventTopic) {
		s.appended.Notify()
	}
	return nil
}
