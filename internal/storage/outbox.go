package storage

import (
	"context"
	"errors"
	"fmt"

	"github.com/opencontainers/go-digest"

	"ferry/internal/metadb"
	"ferry/internal/oci"
)

// ErrUnsent is the error for a change by a sync to an item that a client changed here, while the
// parent does not have that change yet.
var ErrUnsent = errors.New("the item was changed here, and the change was not sent to the parent yet")

// An OutboxItem is the last change that clients made to an item, which the parent must get.
type OutboxItem = metadb.OutboxItem

// A Conflict is a tag that this registry and its parent both changed.
type Conflict = metadb.Conflict

// An author says who changes items, at the beginning of a change.
type author func(c *change, items ...string) error

// byClient is a client or an operator: a registry that sends their changes to its parent records each
// changed item, in the transaction of the change.
func byClient(c *change, _ ...string) error {
	c.records = c.sendsUp
	return nil
}

// bySync is a sync, which no lock hinders, and which must not change an item that a client changed and
// that was not sent yet.
func bySync(c *change, items ...string) error {
	c.unlocked = true
	for _, item := range items {
		if err := c.checkSent(item); err != nil {
			return err
		}
	}
	return nil
}

// recordTag records that a client moved a tag from the digest old to d, if the parent must hear of it. If d is
// empty, the tag was removed.
func (c *change) recordTag(name string, old, d digest.Digest) error {
	return c.recordChange(name, name, old, d)
}

// recordManifest is like recordTag, for a manifest without a tag.
func (c *change) recordManifest(manifest string, d digest.Digest) error {
	return c.recordChange(manifest, "", "", d)
}

// recordRemoval is like recordTag, for the repository itself, which was removed.
func (c *change) recordRemoval() error { return c.recordChange("", "", "", "") }

func (c *change) recordChange(item, tag string, old, d digest.Digest) error {
	if !c.records {
		return nil
	}
	if _, err := c.number(); err != nil { // so that those who wait for a change are notified
		return err
	}
	return c.tx.RecordChange(c.repository, item, tag, string(old), string(d), c.now())
}

// wholeRepository stands for every item of a repository.
const wholeRepository = ""

// checkSent returns [ErrUnsent] if the parent does not have the last change of an item yet.
func (c *change) checkSent(item string) (err error) {
	var unsent bool
	if item == wholeRepository {
		unsent, err = c.tx.HasUnsent(c.repository)
	} else {
		unsent, err = c.tx.IsUnsent(c.repository, item)
	}
	if err == nil && unsent {
		return fmt.Errorf("%s %s: %w", c.repository, item, ErrUnsent)
	}
	return err
}

// recordRepository records that a client deletes the repository: every item in it, and then the
// repository itself, which the parent deletes if nothing else is left in it there.
func (c *change) recordRepository() error {
	if !c.records {
		return nil
	}
	tags, err := c.tx.Tags(c.repository, metadb.TagOrder{}, metadb.NoLimit, 0)
	if err != nil {
		return err
	}
	for _, tag := range tags {
		if err := c.recordTag(tag.Name, tag.Digest, ""); err != nil {
			return err
		}
	}
	manifests, err := c.tx.Manifests(c.repository, "", metadb.NoLimit)
	if err != nil {
		return err
	}
	for _, index := range []bool{true, false} { // an index before its children
		for _, m := range manifests {
			if oci.IsIndex(m.MediaType) != index {
				continue
			}
			if err := c.recordManifest(string(m.Digest), ""); err != nil {
				return err
			}
		}
	}
	return c.recordRemoval()
}

// OutboxChanged returns a channel that is closed when a client next changes an item that the parent
// must get.
func (s *Storage) OutboxChanged() <-chan struct{} { return s.outboxChanged.Wait() }

// Outbox returns up to limit changes that the parent does not have yet, and that it did not refuse,
// after the change with the version after, in their order.
func (s *Storage) Outbox(ctx context.Context, after int64, limit int) ([]OutboxItem, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) ([]OutboxItem, error) {
		return tx.Outbox(metadb.Unsent, after, limit)
	})
}

// maxAttempted is how many digests are kept of which it is unknown whether the parent has them.
const maxAttempted = 8

// MarkAttempted records that a change is being sent, because its answer may get lost. It returns the
// row, and ok false if the item has changed meanwhile.
func (s *Storage) MarkAttempted(ctx context.Context, o OutboxItem) (row OutboxItem, ok bool, err error) {
	err = s.remove(ctx, func(tx *metadb.Tx) error {
		row, err = tx.OutboxItem(o.Repository, o.Item)
		ok = err == nil && row.Version == o.Version && row.State == metadb.Unsent
		if errors.Is(err, metadb.ErrNotFound) {
			err = nil
		}
		if err != nil || !ok {
			return err
		}
		for _, d := range row.Attempted {
			if d == o.Digest {
				return nil
			}
		}
		row.Attempted = append(row.Attempted, o.Digest)
		row.Attempted = row.Attempted[max(len(row.Attempted)-maxAttempted, 0):]
		return tx.PutOutboxItem(row)
	})
	return row, ok, err
}

// A SentItem is a parent's answer to a change.
type SentItem struct {
	OutboxItem               // as it was sent
	Seq        int64         // the parent's sequence number; its listings with an older one are outdated
	Refused    string        // why the parent refused the change; "" if it did not
	Conflict   bool          // the parent's own change holds
	Parent     digest.Digest // with Conflict: the digest of the parent's tag; "" if it has none
	KeptAs     string        // with Conflict: the tag that keeps this registry's digest at the parent; "" is none
}

// RecordSent records a parent's answer to a change. If the parent accepted it, the item is in sync: as
// the next listing will have it. After a conflict, the next sync sets the item to the parent's
// digest, and the tag KeptAs keeps this registry's.
func (s *Storage) RecordSent(ctx context.Context, sent SentItem, notes ...Note) error {
	err := s.update(ctx, sent.Repository, s.remove, func(c *change) error {
		row, err := c.tx.OutboxItem(sent.Repository, sent.Item)
		if errors.Is(err, metadb.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.answered(row, sent); err != nil {
			return err
		}
		return writeNotes(c.tx, notes)
	})
	s.cache.forget(sent.Repository, sent.KeptAs)
	return err
}

// answered applies a parent's answer to the row of an item.
func (c *change) answered(row OutboxItem, sent SentItem) error {
	changedSince := row.Version != sent.Version
	if sent.Refused != "" {
		if changedSince {
			return nil
		}
		row.State, row.Error = metadb.Failed, sent.Refused
		return c.tx.PutOutboxItem(row)
	}
	parent := sent.Digest
	if sent.Conflict {
		parent = string(sent.Parent)
	}
	row.Seq = max(row.Seq, sent.Seq)
	if changedSince {
		if !sent.Conflict {
			row.Base, row.Attempted = parent, nil
		}
	} else {
		row.State, row.Attempted = metadb.Sent, nil
	}
	if err := c.tx.PutOutboxItem(row); err != nil {
		return err
	}
	if sent.Item == "" {
		return nil
	}
	if err := c.parentHas(row, parent, sent.Conflict); err != nil || !sent.Conflict {
		return err
	}
	err := c.tx.PutConflict(Conflict{
		Repository: sent.Repository, Tag: sent.Tag, Digest: sent.Digest, ParentDigest: parent, KeptAs: sent.KeptAs,
		FoundAt: c.now(),
	})
	if err != nil || sent.KeptAs == "" || changedSince {
		return err
	}
	return c.keepAs(sent)
}

// parentHas records which digest the parent has of an item, "" if none. If the item's own change
// lost a conflict, the next sync follows the parent.
func (c *change) parentHas(row OutboxItem, parent string, lost bool) error {
	known, err := c.tx.SyncItem(metadb.Parent, row.Repository, row.Item)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	if parent == "" && row.State == metadb.Sent && !lost {
		return c.tx.DeleteSyncItem(metadb.Parent, row.Repository, row.Item)
	}
	now := c.now()
	known.Source, known.Repository, known.Item, known.Tag = metadb.Parent, row.Repository, row.Item, row.Tag
	if !now.After(known.ChangedAt) { // a sync tells the rows apart by their time
		now = known.ChangedAt.Add(1e6)
	}
	known.Digest, known.Part, known.Error, known.Permanent, known.ChangedAt = parent, "", "", false, now
	switch {
	case row.State != metadb.Sent:
		known.State = metadb.Held
	case lost:
		known.State = "pending"
	default:
		known.State, known.SyncedAt = "synced", now
	}
	return c.tx.PutSyncItem(known)
}

// keepAs sets the tag that keeps the digest of a change that lost a conflict, as the parent has done.
func (c *change) keepAs(sent SentItem) error {
	has, err := c.tx.HasManifest(c.repository, sent.Digest)
	if err != nil || !has {
		return err
	}
	if err := c.setTag(sent.KeptAs, digest.Digest(sent.Digest)); err != nil {
		return err
	}
	row := OutboxItem{
		Repository: sent.Repository, Item: sent.KeptAs, Tag: sent.KeptAs, Digest: sent.Digest, State: metadb.Sent,
		Seq: sent.Seq, ChangedAt: c.now(),
	}
	if err := c.tx.PutOutboxItem(row); err != nil {
		return err
	}
	return c.parentHas(row, sent.Digest, false)
}

// Resolve ends the conflicts of an item. With discard it gives up the item's change that was not sent
// yet: the next sync makes the item as it is at the parent. It returns how many conflicts it ended, and
// whether it discarded a change.
func (s *Storage) Resolve(
	ctx context.Context, repository, item string, discard bool, notes ...Note,
) (conflicts int64, discarded bool, err error) {
	err = s.remove(ctx, func(tx *metadb.Tx) (err error) {
		if conflicts, err = tx.ResolveConflicts(repository, item); err != nil {
			return err
		}
		if discard {
			if discarded, err = tx.DiscardChange(repository, item); err != nil {
				return err
			}
		}
		return writeNotes(tx, notes)
	})
	return conflicts, discarded, err
}

// RetryRefused makes the changes that the parent refused, or that could not be sent, due again.
func (s *Storage) RetryRefused(ctx context.Context) error {
	return s.remove(ctx, (*metadb.Tx).RetryFailed)
}
