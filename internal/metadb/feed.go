package metadb

import "errors"

// A FeedEntry is a row of feed: the last change of one repository.
type FeedEntry struct {
	Repository string
	Seq        int64 // of the last change
	RelistSeq  int64 // of the last change that needs a complete listing
	PrevSeq    int64 // of the change before the last
	HealedSeq  int64 // of the last time that damaged content was back in service
}

// The counters of the feed: the sequence number of the last change, and the highest number of a
// deleted repository that the feed has forgotten.
const (
	feedHead    = "feed"
	feedTrimmed = "feed-trimmed"
)

func (e *FeedEntry) fields() []any {
	return []any{&e.Repository, &e.Seq, &e.RelistSeq, &e.PrevSeq, &e.HealedSeq}
}

// AdvanceFeed takes the next sequence number for a change of repository.
func (tx *Tx) AdvanceFeed(repository string, now Uptime) (seq int64, err error) {
	tx.Changed(RepositoryTopic, repository)
	if seq, err = tx.Next(feedHead); err != nil {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO feed (repository, seq, relist_seq, prev_seq, changed_at) VALUES ($1, $2, 0, 0, $3)
		ON CONFLICT (repository) DO UPDATE SET prev_seq = feed.seq, seq = excluded.seq,
		changed_at = excluded.changed_at`,
		repository, seq, now)
	return seq, wrap(err, "write feed of "+repository)
}

// SkipFeed takes the next sequence number for a change of no repository, such as a change of a
// subscription.
func (tx *Tx) SkipFeed() (seq int64, err error) { return tx.Next(feedHead) }

// Relist records that only a complete listing can express the change of repository with the
// sequence number seq.
func (tx *Tx) Relist(repository string, seq int64) error {
	return tx.do("write feed of "+repository, `UPDATE feed SET relist_seq = $2 WHERE repository = $1`, repository, seq)
}

// MarkHealed records that damaged content of repository is back in service, in the change with
// the sequence number seq. No item changed.
func (tx *Tx) MarkHealed(repository string, seq int64) error {
	return tx.do("write feed of "+repository, `UPDATE feed SET healed_seq = $2 WHERE repository = $1`, repository, seq)
}

// FeedHead returns the sequence number of the last change, 0 before the first, and the number
// after which the feed is complete. A reader whose cursor is below that number has to start
// again.
func (tx *Tx) FeedHead() (head, trimmed int64, err error) {
	err = tx.statements.QueryRowContext(tx.ctx, `SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0),
		COALESCE((SELECT value FROM counters WHERE name = $2), 0)`, feedHead, feedTrimmed).Scan(&head, &trimmed)
	return head, trimmed, wrap(tx.note(err), "read feed")
}

// Feed returns up to limit repositories that changed after the sequence number after, by the
// number of their last change.
func (tx *Tx) Feed(after int64, limit int) ([]FeedEntry, error) {
	return list[FeedEntry](tx, "read feed", `SELECT repository, seq, relist_seq, prev_seq, healed_seq
		FROM feed WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
}

// DeletedSince returns the repositories that were deleted after the sequence number after, by
// name.
func (tx *Tx) DeletedSince(after int64) ([]string, error) {
	return list[string](tx, "read deleted repositories",
		`SELECT repository FROM feed WHERE seq > $1 AND `+deleted+` ORDER BY repository`, after)
}

// FeedEntry returns the row of a repository; zero if the repository never existed or was
// deleted long ago.
func (tx *Tx) FeedEntry(repository string) (FeedEntry, error) {
	e, err := get[FeedEntry](tx, "read feed of "+repository,
		`SELECT repository, seq, relist_seq, prev_seq, healed_seq FROM feed WHERE repository = $1`, repository)
	if errors.Is(err, ErrNotFound) {
		return FeedEntry{Repository: repository}, nil
	}
	return e, err
}

// PutTombstone records that an item was removed from repository.
func (tx *Tx) PutTombstone(repository, item string, seq int64, now Uptime) error {
	return tx.do("write tombstone of "+item+" in "+repository,
		`INSERT INTO tombstones (repository, item, seq, removed_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (repository, item) DO UPDATE SET seq = excluded.seq, removed_at = excluded.removed_at`,
		repository, item, seq, now)
}

// A Removal is a tag or an untagged manifest that was removed from a repository.
type Removal struct {
	Item string // the tag, or the digest
	Seq  int64  // of the change
}

func (r *Removal) fields() []any { return []any{&r.Item, &r.Seq} }

// Removed returns the items that were removed from repository after the sequence number after, by
// name. It may include items that were added again.
func (tx *Tx) Removed(repository string, after int64) ([]Removal, error) {
	return list[Removal](tx, "read tombstones of "+repository,
		`SELECT item, seq FROM tombstones WHERE repository = $1 AND seq > $2 ORDER BY item`, repository, after)
}

// TrimFeed deletes the records of items and repositories that were removed before the given
// moment, about limit at a time, the oldest first. more reports whether some are left. A reader
// whose cursor is older gets a complete listing of the repository, or of all repositories.
func (tx *Tx) TrimFeed(before Uptime, limit int) (more bool, err error) {
	last, err := get[Uptime](tx, "trim feed", `SELECT removed_at FROM tombstones WHERE removed_at < $1
		ORDER BY removed_at LIMIT 1 OFFSET $2`, before, limit-1)
	switch {
	case err == nil:
		more, before = last+1 < before, last+1
	case !errors.Is(err, ErrNotFound):
		return false, err
	}
	for _, statement := range []string{
		`UPDATE feed SET relist_seq = CASE WHEN relist_seq < old.seq THEN old.seq ELSE relist_seq END
			FROM (SELECT repository, MAX(seq) AS seq FROM tombstones WHERE removed_at < $1 GROUP BY repository) AS old
			WHERE feed.repository = old.repository`,
		`DELETE FROM tombstones WHERE removed_at < $1`,
		`INSERT INTO counters (name, value) SELECT '` + feedTrimmed + `', MAX(seq) FROM feed
			WHERE changed_at < $1 AND ` + deleted + ` HAVING COUNT(*) > 0
			ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE counters.value < excluded.value`,
		`DELETE FROM feed WHERE changed_at < $1 AND ` + deleted,
	} {
		if err := tx.do("trim feed", statement, before); err != nil {
			return false, err
		}
	}
	return more, nil
}

// deleted is the condition that a repository in the feed was deleted.
const deleted = `NOT EXISTS (SELECT 1 FROM repositories WHERE repositories.name = feed.repository)`
