package metadb

import (
	"fmt"
	"strconv"
	"time"
)

// An Event is a row of events: something that happened to content, here or at a descendant.
type Event struct {
	ID         int64  // the order in which this instance recorded it
	Origin     string // identifies the event, together with Registry; "" lets [Tx.AddEvent] choose
	Registry   string // the connected registry where it happened; "" is a root
	At         time.Time
	Type       string
	Repository string
	Tag        string // "" is none
	Digest     string // "" is a whole repository
	MediaType  string
	Size       int64  // in bytes; or how many events were dropped
	Reason     string // a code for programs, of a failure
	Detail     string // for people
	Forward    bool   // the parent must get it
}

func (e *Event) fields() []any {
	return []any{
		&e.ID, &e.Origin, &e.Registry, at(&e.At), &e.Type, &e.Repository, &e.Tag, &e.Digest, &e.MediaType, &e.Size,
		&e.Reason, &e.Detail, &e.Forward,
	}
}

const eventColumns = `id, origin, registry, at, type, repository, tag, digest, media_type, size, reason,
	detail, forward`

// events is the counter that numbers events.
const events = "events"

// AddEvent records e under the next number, and deletes all but the last keep events. It returns
// how many of the deleted ones the parent did not get. If the event is recorded already, added is
// false, and nothing changes.
func (tx *Tx) AddEvent(e Event, keep int64) (added bool, lost int64, err error) {
	tx.Changed(EventTopic, "")
	if e.Origin != "" {
		known, err := get[int](tx, "read event", `SELECT COUNT(*) FROM events WHERE registry = $1 AND origin = $2`,
			e.Registry, e.Origin)
		if err != nil || known > 0 {
			return false, 0, err
		}
	}
	if e.ID, err = tx.Next(events); err != nil {
		return false, 0, err
	}
	if e.Origin == "" {
		e.Origin = originOf(e.ID, e.At)
	}
	_, err = tx.exec(`INSERT INTO events (`+eventColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		e.ID, e.Origin, e.Registry, millis(e.At), e.Type, e.Repository, e.Tag, e.Digest, e.MediaType, e.Size, e.Reason,
		e.Detail, flag(e.Forward))
	if err == nil {
		lost, err = tx.exec(`DELETE FROM events WHERE id <= $1 AND forward = 1`, e.ID-keep)
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM events WHERE id <= $1`, e.ID-keep)
	}
	return err == nil, lost, wrap(err, "write event")
}

// flag returns a flag as it is stored.
func flag(b bool) int {
	if b {
		return 1
	}
	return 0
}

// originOf returns what identifies a numbered row of this instance elsewhere. The time is part of
// it, because numbers begin again in a new database.
func originOf(id int64, at time.Time) string {
	return strconv.FormatInt(id, 10) + "-" + strconv.FormatInt(millis(at), 10)
}

// EventsAfter returns the first limit events with a higher number than after, in order. With
// forward, it returns only those that the parent must get.
func (tx *Tx) EventsAfter(after int64, forward bool, limit int) ([]Event, error) {
	return list[Event](tx, "list events", `SELECT `+eventColumns+` FROM events
		WHERE id > $1 AND forward >= $2 ORDER BY id LIMIT $3`, after, flag(forward), limit)
}

// MarkForwarded records that the parent has the events up to a number.
func (tx *Tx) MarkForwarded(last int64) error {
	return tx.do("write events", `UPDATE events SET forward = 0 WHERE id <= $1 AND forward = 1`, last)
}

// ReplaceEvent writes the time, the size and the detail of the newest event of a type that the
// parent does not have yet. It returns false if there is none.
func (tx *Tx) ReplaceEvent(e Event) (bool, error) {
	n, err := tx.exec(`UPDATE events SET at = $3, size = $4, detail = $5 WHERE id = (SELECT MAX(id) FROM events
		WHERE registry = $1 AND type = $2 AND forward = 1)`, e.Registry, e.Type, millis(e.At), e.Size, e.Detail)
	return n > 0, wrap(err, "write event")
}

// An EventQuery selects events. A zero field, other than Limit, selects all of them.
type EventQuery struct {
	Before     int64 // only events with a lower number
	Registry   string
	Repository string
	Type       string
	Limit      int // of the newest events
}

// Events returns the events that q selects, newest first.
func (tx *Tx) Events(q EventQuery) ([]Event, error) {
	return list[Event](tx, "list events", `SELECT `+eventColumns+` FROM events
		WHERE ($1 = 0 OR id < $1) AND ($2 = '' OR LOWER(registry) = LOWER($2)) AND ($3 = '' OR repository = $3)
		AND ($4 = '' OR type = $4) ORDER BY id DESC LIMIT $5`, q.Before, q.Registry, q.Repository, q.Type, q.Limit)
}

// Count adds n to the named counter and returns it.
func (tx *Tx) Count(counter string, n int64) (int64, error) {
	return get[int64](tx, "count "+counter, `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = counters.value + excluded.value RETURNING value`, counter, n)
}

// Counter returns the value of the named counter.
func (tx *Tx) Counter(counter string) (int64, error) {
	return get[int64](tx, "read counter "+counter,
		`SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0)`, counter)
}

// MarkPulled records when a client first pulled a manifest. It returns false if that is recorded
// already, or if there is no such manifest.
func (tx *Tx) MarkPulled(repository, digest string, at time.Time) (bool, error) {
	n, err := tx.exec(`UPDATE manifests SET pulled_at = $3 WHERE repository = $1 AND digest = $2 AND pulled_at = 0`,
		repository, digest, millis(at))
	return n > 0, wrap(err, fmt.Sprintf("write pull of %s@%s", repository, digest))
}

// NeverPulled reports whether a manifest is here, and no pull of it is recorded.
func (tx *Tx) NeverPulled(repository, digest string) (bool, error) {
	n, err := get[int](tx, "read pull", `SELECT COUNT(*) FROM manifests
		WHERE repository = $1 AND digest = $2 AND pulled_at = 0`, repository, digest)
	return n > 0, err
}

// Describe returns a manifest without its payload.
func (tx *Tx) Describe(repository, digest string) (Manifest, error) {
	return get[Manifest](tx, "read manifest "+repository+"@"+digest, `SELECT `+manifestHead+` FROM manifests
		WHERE repository = $1 AND digest = $2`, repository, digest)
}

// LastEvent returns the number of the last event; 0 is none.
func (tx *Tx) LastEvent() (int64, error) { return tx.Counter(events) }
