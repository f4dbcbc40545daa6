package metadb

import (
	"encoding/json"
	"errors"
	"time"
)

// The states of an [OutboxItem].
const (
	Unsent = "unsent" // the parent does not have the change yet
	Failed = "failed" // the parent refused it, or it cannot be sent; it is tried again now and then
	Sent   = "sent"   // the parent has answered; listings with an older sequence number are outdated
)

// Held is the state of a sync item that a client changed here, while its change is [Unsent] or
// [Failed]. A sync neither fetches nor removes it.
const Held = "held"

// An OutboxItem is a row of outbox: the last change that clients made to an item of a connected
// registry, which its parent must get.
type OutboxItem struct {
	Repository string
	Item       string // the tag, or the digest of an untagged manifest; "" is the repository itself, removed
	Tag        string // "" for an untagged manifest
	Digest     string // "" if the item was removed
	Base       string // the digest of a tag here before a client first changed it; "" is none
	// Attempted are digests that the parent may have, because their change was sent and no answer
	// came; "" is a removal.
	Attempted []string
	State     string
	Version   int64 // a number of the change; later changes have higher ones
	Seq       int64 // the parent's sequence number when it last answered; 0 is never
	Error     string
	ChangedAt time.Time
}

const outboxColumns = `repository, item, tag, digest, base, attempted, state, version, seq, error, changed_at`

func (o *OutboxItem) fields() []any {
	return []any{&o.Repository, &o.Item, &o.Tag, &o.Digest, &o.Base, parsed{&o.Attempted}, &o.State, &o.Version,
		&o.Seq, &o.Error, at(&o.ChangedAt)}
}

// OutboxItem returns the row of an item.
func (tx *Tx) OutboxItem(repository, item string) (OutboxItem, error) {
	return get[OutboxItem](tx, "read outbox of "+repository+" "+item,
		`SELECT `+outboxColumns+` FROM outbox WHERE repository = $1 AND item = $2`, repository, item)
}

// Outbox returns up to limit rows with a state after the version after, in the order of the changes.
func (tx *Tx) Outbox(state string, after int64, limit int) ([]OutboxItem, error) {
	return list[OutboxItem](tx, "list outbox", `SELECT `+outboxColumns+` FROM outbox
		WHERE state = $1 AND version > $2 ORDER BY version, repository, item LIMIT $3`, state, after, limit)
}

// AnsweredAfter returns the rows of repository whose answer is newer than the sequence number seq.
func (tx *Tx) AnsweredAfter(repository string, seq int64) ([]OutboxItem, error) {
	return list[OutboxItem](tx, "list outbox of "+repository, `SELECT `+outboxColumns+` FROM outbox
		WHERE repository = $1 AND seq > $2 ORDER BY item`, repository, seq)
}

// PutOutboxItem writes a row.
func (tx *Tx) PutOutboxItem(o OutboxItem) error {
	if o.Attempted == nil {
		o.Attempted = []string{}
	}
	attempted, err := json.Marshal(o.Attempted)
	if err != nil {
		return err
	}
	return tx.do("write outbox of "+o.Repository+" "+o.Item,
		`INSERT INTO outbox (`+outboxColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
		ON CONFLICT (repository, item) DO UPDATE SET digest = excluded.digest, base = excluded.base,
		attempted = excluded.attempted, state = excluded.state, version = excluded.version, seq = excluded.seq,
		error = excluded.error, changed_at = excluded.changed_at`,
		o.Repository, o.Item, o.Tag, o.Digest, o.Base, string(attempted), o.State, o.Version, o.Seq, o.Error,
		millis(o.ChangedAt))
}

// DeleteOutboxItem deletes the row of an item.
func (tx *Tx) DeleteOutboxItem(repository, item string) error {
	return tx.do("delete outbox of "+repository+" "+item,
		`DELETE FROM outbox WHERE repository = $1 AND item = $2`, repository, item)
}

// IsUnsent reports whether the parent does not have the last change of an item yet.
func (tx *Tx) IsUnsent(repository, item string) (bool, error) {
	return get[bool](tx, "read outbox of "+repository+" "+item, `SELECT EXISTS (SELECT 1 FROM outbox
		WHERE repository = $1 AND item = $2 AND state <> 'sent')`, repository, item)
}

// HasUnsent reports whether an item of repository has a change that the parent does not have yet.
func (tx *Tx) HasUnsent(repository string) (bool, error) {
	return get[bool](tx, "read outbox of "+repository, `SELECT EXISTS (SELECT 1 FROM outbox
		WHERE repository = $1 AND state <> 'sent')`, repository)
}

// CountOutbox returns the number of rows by state.
func (tx *Tx) CountOutbox() (map[string]int, error) {
	groups, err := list[group](tx, "count outbox", `SELECT state, COUNT(*) FROM outbox GROUP BY state`)
	counts := map[string]int{}
	for _, g := range groups {
		counts[g.name] = g.n
	}
	return counts, err
}

// UnsentBlobs returns the blobs below the manifests of the outbox, with their sizes, each once.
func (tx *Tx) UnsentBlobs(limit int) ([]Blob, error) {
	return list[Blob](tx, "list blobs of the outbox", `WITH RECURSIVE below (repository, digest) AS (
			SELECT repository, digest FROM outbox WHERE state <> 'sent' AND digest <> ''
			UNION SELECT c.repository, c.child FROM manifest_children c
				JOIN below b ON c.repository = b.repository AND c.parent = b.digest)
		SELECT `+blobColumns+` FROM blobs WHERE digest IN (SELECT digest FROM below) ORDER BY digest LIMIT $1`, limit)
}

// RecordChange records that a client changed an item here from the digest old to another, or removed it if
// digest is "". The base of an earlier change that was not sent stays.
//
// The base of the change is old, even if the parent has listed another digest. That one was not fetched yet, so
// no client here has seen it.
func (tx *Tx) RecordChange(repository, item, tag, old, digest string, now time.Time) error {
	version, err := tx.Next("outbox")
	if err != nil {
		return err
	}
	known, err := tx.SyncItem(Parent, repository, item)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	row, err := tx.OutboxItem(repository, item)
	switch {
	case errors.Is(err, ErrNotFound):
		row = OutboxItem{Repository: repository, Item: item, Tag: tag, Base: old}
	case err != nil:
		return err
	case row.State == Sent:
		row.Base, row.Attempted = old, nil
	}
	row.Digest, row.State, row.Error, row.Version, row.ChangedAt = digest, Unsent, "", version, now
	if err = tx.PutOutboxItem(row); err != nil || item == "" {
		return err
	}
	known.Source, known.Repository, known.Item, known.Tag = Parent, repository, item, tag
	return tx.holdSyncItem(known, now)
}

// holdSyncItem writes an item whose change here was not sent yet. The new time tells a running Sync
// that the row changed after it was read.
func (tx *Tx) holdSyncItem(i SyncItem, now time.Time) error {
	if !now.After(i.ChangedAt) {
		now = i.ChangedAt.Add(time.Millisecond)
	}
	i.State, i.Error, i.Permanent, i.ChangedAt = Held, "", false, now
	return tx.PutSyncItem(i)
}

// DropUntagged forgets that a manifest was pushed without a tag, because a tag or an index references
// it now.
func (tx *Tx) DropUntagged(repository, digest string) error {
	row, err := tx.OutboxItem(repository, digest)
	if errors.Is(err, ErrNotFound) || err == nil && (row.Digest == "" || row.State == Sent) {
		return nil
	}
	if err == nil {
		err = tx.DeleteOutboxItem(repository, digest)
	}
	if err != nil {
		return err
	}
	known, err := tx.SyncItem(Parent, repository, digest)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return err
	case known.Digest == "":
		return tx.DeleteSyncItem(Parent, repository, digest)
	}
	known.State = "pending"
	return tx.PutSyncItem(known)
}

// DiscardChange gives up a change that the parent does not have yet, so that the next sync makes the item
// as it is there. It reports whether there was one.
func (tx *Tx) DiscardChange(repository, item string) (bool, error) {
	n, err := tx.exec(`DELETE FROM outbox WHERE repository = $1 AND item = $2 AND state <> 'sent'`, repository, item)
	if err != nil || n == 0 {
		return false, wrap(err, "discard change of "+repository+" "+item)
	}
	return true, tx.do("fetch "+repository+" "+item, `UPDATE sync_items SET state = 'pending',
		changed_at = changed_at + 1 WHERE source = '' AND repository = $1 AND item = $2 AND state = 'held'`,
		repository, item)
}

// ForgetAnswered deletes the rows of sent changes of repository whose answers are not newer than the
// sequence number seq.
func (tx *Tx) ForgetAnswered(repository string, seq int64) error {
	return tx.do("delete outbox of "+repository,
		`DELETE FROM outbox WHERE repository = $1 AND state = 'sent' AND seq <= $2`, repository, seq)
}

// TakeAnswered deletes the rows of sent changes whose answers are not newer than the sequence number
// seq, and returns their repositories, by name.
func (tx *Tx) TakeAnswered(seq int64) ([]string, error) {
	all, err := list[string](tx, "list outbox", `SELECT DISTINCT repository FROM outbox
		WHERE state = 'sent' AND seq <= $1 ORDER BY repository`, seq)
	if err != nil || len(all) == 0 {
		return nil, err
	}
	return all, tx.do("delete outbox", `DELETE FROM outbox WHERE state = 'sent' AND seq <= $1`, seq)
}

// ResendAnswered marks the sent changes whose answers are newer than the sequence number seq as
// unsent, because the parent may have lost them.
func (tx *Tx) ResendAnswered(seq int64) error {
	if err := tx.do("hold sync items", `UPDATE sync_items SET state = 'held', changed_at = changed_at + 1
		WHERE source = '' AND EXISTS (SELECT 1 FROM outbox o WHERE o.repository = sync_items.repository
		AND o.item = sync_items.item AND o.state = 'sent' AND o.seq > $1)`, seq); err != nil {
		return err
	}
	return tx.do("reset outbox", `UPDATE outbox SET seq = 0,
		state = CASE WHEN state = 'sent' THEN 'unsent' ELSE state END
		WHERE seq > $1`, seq)
}

// RetryFailed marks every failed change as unsent.
func (tx *Tx) RetryFailed() error {
	return tx.do("reset outbox", `UPDATE outbox SET state = 'unsent' WHERE state = 'failed'`)
}

// OtherRepository returns another repository that has a blob, preferably one that the parent has, too.
func (tx *Tx) OtherRepository(repository, digest string) (string, error) {
	return get[string](tx, "find blob "+digest, `SELECT b.repository FROM repository_blobs b
		WHERE b.digest = $2 AND b.repository <> $1 ORDER BY CASE WHEN EXISTS (SELECT 1 FROM sync_items i
		WHERE i.source = '' AND i.repository = b.repository AND i.digest <> '') THEN 0 ELSE 1 END, b.repository
		LIMIT 1`,
		repository, digest)
}

// OutboxUpload returns the location of the upload of a blob at the parent.
func (tx *Tx) OutboxUpload(repository, digest string) (location string, err error) {
	return get[string](tx, "read upload of "+digest,
		`SELECT location FROM outbox_uploads WHERE repository = $1 AND digest = $2`, repository, digest)
}

// PutOutboxUpload records the location of the upload of a blob at the parent.
func (tx *Tx) PutOutboxUpload(repository, digest, location string) error {
	return tx.do("write upload of "+digest,
		`INSERT INTO outbox_uploads (repository, digest, location) VALUES ($1, $2, $3)
		ON CONFLICT (repository, digest) DO UPDATE SET location = excluded.location`, repository, digest, location)
}

// DeleteOutboxUpload forgets the upload of a blob at the parent.
func (tx *Tx) DeleteOutboxUpload(repository, digest string) error {
	return tx.do("delete upload of "+digest,
		`DELETE FROM outbox_uploads WHERE repository = $1 AND digest = $2`, repository, digest)
}

// HasUnusedUploads reports whether there are uploads at the parent although it has every change.
func (tx *Tx) HasUnusedUploads() (bool, error) {
	return get[bool](tx, "find unused uploads", `SELECT EXISTS (SELECT 1 FROM outbox_uploads) AND `+nothingToSend)
}

// DeleteUnusedUploads forgets all uploads at the parent, if it has every change.
func (tx *Tx) DeleteUnusedUploads() error {
	return tx.do("delete unused uploads", `DELETE FROM outbox_uploads WHERE `+nothingToSend)
}

const nothingToSend = `NOT EXISTS (SELECT 1 FROM outbox WHERE state <> 'sent')`
