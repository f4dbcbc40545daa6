package fleet

import (
	"context"

	"github.com/opencontainers/go-digest"

	"ferry/internal/retention"
	"ferry/internal/schedule"
	"ferry/internal/storage"
)

var _ retention.Fleet = (*Service)(nil)

// Holders returns the activated descendants, with the changes that they have heard of. It implements
// [retention.Fleet].
func (s *Service) Holders(ctx context.Context) (all []retention.Holder, err error) {
	err = s.content.View(ctx, func(c *storage.View) error {
		all = nil
		cache, err := newRequestCache(c)
		if err != nil {
			return err
		}
		state := s.control.State()
		for _, r := range state.Below(s.control.Self()) {
			if r.InstanceID == "" {
				continue
			}
			v, err := s.descendantOf(state, r, cache)
			if err != nil {
				return err
			}
			ttl, err := schedule.ParseMessageTTL(r.Settings.MessageTTL)
			if err != nil {
				return err
			}
			all = append(all, retention.Holder{
				Name: r.Name, Watermark: v.watermark, TTL: ttl, Includes: v.mayRead, InFlight: v.isInFlight,
			})
		}
		return nil
	})
	return all, err
}

// isInFlight reports whether the last report lists a manifest that is not in sync there.
func (v descendant) isInFlight(repository string, d digest.Digest) bool {
	for _, o := range v.report.Status.OutOfSync {
		if o.Repository == repository && o.Digest == d {
			return true
		}
	}
	return false
}
