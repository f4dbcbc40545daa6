package server

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/retry"
	"ferry/internal/schedule"
	"ferry/internal/storage"
	"ferry/internal/wire"
)

// upkeepInterval is how often the upkeep reads the desired state, and does the work that is
// due.
const upkeepInterval = time.Minute

// rootCollection is the schedule of garbage collection in a root. That of a connected
// registry is in its desired state.
const rootCollection = "0 * * * *"

// collectedSetting is the name of the setting with the time of the last collection.
const collectedSetting = "garbage-collected"

// trimInterval is how often tombstones older than the longest message TTL are deleted.
const trimInterval = time.Hour

// uptimeInterval is how often the uptime of the instance is saved. After a crash,
// content seems younger by at most this much.
const uptimeInterval = 10 * time.Minute

// An upkeep does the periodic work. It collects garbage, trims the feed, saves the running
// time, and sets the log level of the desired state.
type upkeep struct {
	storage interface {
		Collect(ctx context.Context) (storage.Collected, error)
		TrimFeed(ctx context.Context, age time.Duration) error
		SaveUptime(ctx context.Context) error
	}
	fleet interface {
		Own(ctx context.Context) (*wire.ConnectedRegistry, error)
		SaveSeen(ctx context.Context) error
		LongestMessageTTL() time.Duration
	}
	keys interface {
		SaveKeyUse(ctx context.Context) error
	}
	db    *metadb.DB
	log   *slog.Logger
	level atomic.Pointer[slog.LevelVar] // nil leaves the level as it is
	now   func() time.Time
	every time.Duration // between collections; 0 follows the schedule
	// auditAge is how long entries of the audit log are kept, if there are not too many; 0 is for ever.
	auditAge time.Duration

	started     time.Time // the process
	collected   time.Time // when garbage was last collected; zero until that was read
	trimmed     time.Time
	uptimeSaved time.Time // when the uptime was last saved
	collections collections
}

// levelOf returns the level that the desired state may set: nil if the instance's own
// setting differs from the default.
func levelOf(cfg config.Config, o Options) *slog.LevelVar {
	if cfg.LogLevel != config.Default().LogLevel {
		return nil
	}
	return o.Level
}

// run does the work of each process until ctx ends.
func (u *upkeep) run(ctx context.Context) error {
	u.uptimeSaved = u.now()
	u.repeat(ctx, u.save)
	ctx = context.WithoutCancel(ctx)
	return errors.Join(u.fleet.SaveSeen(ctx), u.keys.SaveKeyUse(ctx), u.storage.SaveUptime(ctx))
}

// lead does the work of which there is only one until ctx ends. Another process may have done it before.
func (u *upkeep) lead(ctx context.Context) error {
	u.collected, u.trimmed = time.Time{}, time.Time{}
	u.repeat(ctx, u.clean)
	return nil
}

// repeat does some work regularly until ctx ends. It logs a failure, and tries again.
func (u *upkeep) repeat(ctx context.Context, work func(context.Context) error) {
	for {
		if err := work(ctx); err != nil && ctx.Err() == nil {
			u.log.Error("upkeep failed", "err", err)
		}
		if retry.Sleep(ctx, cmp.Or(u.every, upkeepInterval), nil) != nil {
			return
		}
	}
}

// save saves the state that this process has in memory.
func (u *upkeep) save(ctx context.Context) error {
	own, err := u.fleet.Own(ctx)
	if err != nil {
		return err
	}
	u.setLevel(own)
	return errors.Join(u.fleet.SaveSeen(ctx), u.keys.SaveKeyUse(ctx), u.saveUptime(ctx, u.now()))
}

// clean trims what is old, and collects garbage, if that is due.
func (u *upkeep) clean(ctx context.Context) error {
	own, err := u.fleet.Own(ctx)
	if err != nil {
		return err
	}
	now := u.now()
	// If a full disk stops the feed from being trimmed, the collection may make room.
	trimErr := u.trim(ctx, now)
	return errors.Join(trimErr, u.collect(ctx, own, now))
}

// saveUptime saves the uptime, if that is due.
func (u *upkeep) saveUptime(ctx context.Context, now time.Time) error {
	if now.Sub(u.uptimeSaved) < uptimeInterval && !u.db.Shared() { // the clocks of several processes must agree
		return nil
	}
	u.uptimeSaved = now
	return u.storage.SaveUptime(ctx)
}

// collect collects garbage, if that is due.
func (u *upkeep) collect(ctx context.Context, own *wire.ConnectedRegistry, now time.Time) error {
	if err := u.loadCollected(ctx, now); err != nil {
		return err
	}
	if !u.collectionDue(own, now) {
		return nil
	}
	u.collected = now // a failed collection is tried again at the next time of the schedule
	c, err := u.storage.Collect(ctx)
	if ctx.Err() != nil {
		return err // the instance stops; the collection is due again after the next start
	}
	u.collections.ran(now, c.Blobs, c.Bytes, err)
	if err == nil && c != (storage.Collected{}) {
		u.log.Info("collected garbage", "blobs", c.Blobs, "bytes", c.Bytes, "uploads", c.Uploads)
	}
	return errors.Join(err, u.saveCollected(ctx))
}

// loadCollected reads the time of the last collection. If it is unknown or in the future,
// because the clock was set back, the interval starts now.
func (u *upkeep) loadCollected(ctx context.Context, now time.Time) error {
	if !u.collected.IsZero() && !u.collected.After(now) {
		return nil
	}
	text, err := metadb.Read(ctx, u.db, func(tx *metadb.Tx) (string, error) { return tx.Setting(collectedSetting) })
	if err != nil {
		return err
	}
	u.collected, _ = time.Parse(time.RFC3339, text) // a text that cannot be read counts as none
	if u.collected.IsZero() || u.collected.After(now) {
		u.collected = now // even if the disk is too full to save it
		return u.saveCollected(ctx)
	}
	return nil
}

func (u *upkeep) saveCollected(ctx context.Context) error {
	return u.db.Update(ctx, func(tx *metadb.Tx) error {
		return tx.SetSetting(collectedSetting, u.collected.UTC().Format(time.RFC3339))
	})
}

// trim deletes old tombstones, if that is due.
func (u *upkeep) trim(ctx context.Context, now time.Time) error {
	if now.Sub(u.trimmed) < trimInterval {
		return nil
	}
	if err := u.storage.TrimFeed(ctx, u.fleet.LongestMessageTTL()); err != nil {
		return err
	}
	u.trimmed = now
	return u.trimAudit(ctx, now)
}

// keptAuditOfOthers is how many entries of the audit logs of all descendants are kept.
const keptAuditOfOthers = 200_000

// trimAudit deletes old entries of the audit log.
func (u *upkeep) trimAudit(ctx context.Context, now time.Time) error {
	var before time.Time
	if u.auditAge > 0 {
		before = now.Add(-u.auditAge)
	}
	return u.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		return tx.TrimAuditLog(before, keptAuditOfOthers)
	})
}

// collectionDue reports whether a time of the schedule has passed since the last
// collection, possibly while the machine was off. No collection runs right after the start.
func (u *upkeep) collectionDue(own *wire.ConnectedRegistry, now time.Time) bool {
	if u.every > 0 {
		return now.Sub(u.collected) >= u.every
	}
	if now.Sub(u.started) < upkeepInterval {
		return false
	}
	when := rootCollection
	if own != nil {
		if !own.GCEnabled {
			return false
		}
		when = own.GCSchedule
	}
	cron, err := schedule.ParseCron(when)
	if err != nil {
		u.log.Error("garbage collection's schedule cannot be read", "err", err)
		return false
	}
	next := cron.Next(u.collected)
	return !next.IsZero() && !next.After(now)
}

// levelNone is above every level of the log.
const levelNone = slog.LevelError + 100

func (u *upkeep) setLevel(own *wire.ConnectedRegistry) {
	level := u.level.Load()
	if level == nil || own == nil {
		return
	}
	level.Set(map[string]slog.Level{
		"Debug": slog.LevelDebug, "Warning": slog.LevelWarn, "Error": slog.LevelError, "None": levelNone,
	}[own.LogLevel]) // any other is [slog.LevelInfo], the zero value
}
