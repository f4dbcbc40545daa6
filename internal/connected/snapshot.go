package connected

import (
	"context"
	"errors"

	"ferry/internal/gateway"
	"ferry/internal/wire"
)

// snapshot hands everything that the parent has for this registry to the
// engine. What was here and is not among it goes with the next sync, after
// everything new is in place: so a narrowed scope is cleaned up, too.
func (v *visit) snapshot(ctx context.Context, trigger string) error {
	v.log.Info("taking stock of all that the parent has", "trigger", trigger)
	m := v.recalled()
	self := m.Self
	var cursor int64
	var feed, after string
	items := 0
	for first := true; ; first = false {
		page, err := v.page(ctx, after)
		if err != nil {
			return err
		}
		if first {
			cursor, feed = page.Cursor, page.Feed
		}
		last := page.Next == ""
		if err := v.engine.ApplySnapshot(ctx, page.Items, cursor, first, last); err != nil {
			return local(err)
		}
		items += len(page.Items)
		if last {
			if !m.Reach.SamePlatforms(self.Reach()) { // also of what the snapshot has as it was
				if err := v.engine.Recheck(ctx); err != nil {
					return local(err)
				}
			}
			v.news = true
			v.remember(ctx, func(m *memory) {
				m.Following, m.Feed, m.SyncTrigger = true, feed, trigger
				m.Reach, m.Resync = self.Reach(), self.Resync
			})
			v.log.Info("took stock", "items", items)
			return nil
		}
		after = page.Next
	}
}

// page asks for a page of the snapshot until it comes: a cut must not let
// the pages before it be asked for again.
func (v *visit) page(ctx context.Context, after string) (*wire.SnapshotPage, error) {
	for {
		page, err := v.parent.Snapshot(ctx, after)
		if err == nil || refused(err) || ctx.Err() != nil {
			return page, err
		}
		if answer := (*gateway.AnswerError)(nil); errors.As(err, &answer) && answer.Status < 500 {
			return nil, err
		}
		if !sleep(ctx, v.bad(err)) {
			return nil, context.Cause(ctx)
		}
	}
}
