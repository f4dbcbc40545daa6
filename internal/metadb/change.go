package metadb

import "time"

// A Change is a row of the change feed.
type Change struct {
	Seq        int64
	Kind       string
	Repository string
	Tag        string
	Digest     string
	Former     string // what was in the place of Digest, or below it; spaces between
	Origin     string
	At         time.Time
}

// feed is the counter that numbers the change feed.
const feed = "feed"

func scanChange(row scanner) (c Change, err error) {
	var at int64
	err = row.Scan(&c.Seq, &c.Kind, &c.Repository, &c.Tag, &c.Digest, &c.Former, &c.Origin, &at)
	c.At = fromMillis(at)
	return c, err
}

// AddChange appends c to the change feed under the next sequence number,
// which it returns.
func (tx *Tx) AddChange(c Change) (seq int64, err error) {
	if seq, err = tx.Next(feed); err != nil {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO changes (seq, kind, repository, tag, digest, former, origin, at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		seq, c.Kind, c.Repository, c.Tag, c.Digest, c.Former, c.Origin, millis(c.At))
	return seq, wrap(err, "write change %d", seq)
}

// Changes returns up to limit changes after the sequence number after, in order.
func (tx *Tx) Changes(after int64, limit int) ([]Change, error) {
	all, err := list(tx, scanChange, `SELECT seq, kind, repository, tag, digest, former, origin, at FROM changes
		WHERE seq > $1 ORDER BY seq LIMIT $2`, after, limit)
	return all, wrap(err, "read change feed")
}

// FeedBounds returns the sequence number of the newest change there ever was,
// and that of the oldest one kept, which is head + 1 where none is.
func (tx *Tx) FeedBounds() (oldest, head int64, err error) {
	err = tx.row(`SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0)`, feed).Scan(&head)
	if err == nil {
		err = tx.row(`SELECT COALESCE((SELECT MIN(seq) FROM changes), $1)`, head+1).Scan(&oldest)
	}
	return oldest, head, wrap(err, "read change feed")
}

// TrimChanges drops every change up to the newest one from before the given
// time. Where a clock went backwards, later ones than that go, too: what is
// kept never has a gap, which a reader would pass without noticing.
func (tx *Tx) TrimChanges(before time.Time) error {
	_, err := tx.exec(`DELETE FROM changes WHERE seq <= (SELECT COALESCE(MAX(seq), 0) FROM changes WHERE at < $1)`, millis(before))
	return wrap(err, "trim change feed")
}
