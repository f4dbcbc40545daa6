package metadb

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// A Topic is a kind of state that processes keep in memory.
type Topic string

// The topics of changes, and their names.
const (
	RepositoryTopic Topic = "repository" // manifests, tags and locks of the repository NAME
	ReportTopic     Topic = "report"     // the last report of the connected registry NAME
	DamageTopic     Topic = "damage"     // what is damaged
	EventTopic      Topic = "events"     // events were recorded
	WebhookTopic    Topic = "webhooks"   // webhooks or their deliveries
	RuleTopic       Topic = "rules"      // mirror rules and purge rules
	ImportTopic     Topic = "imports"    // imports began or ended
	LoginTopic      Topic = "login"      // logins failed: NAME is their number, their sender, and the time
	UploadTopic     Topic = "uploads"    // NAME is a message about an upload; see package storage
	QuestionTopic   Topic = "questions"  // a process asks the one that does the work of which there is only one
	AnswerTopic     Topic = "answers"    // that one has answered
	schemaTopic     Topic = "schema"     // a newer program has migrated the database
	controlTopic    Topic = "control"    // TABLE/NAME of a row of the control plane
)

// isKnown reports whether this version of the program knows a topic. A newer one, which runs beside it, may
// write others.
func (t Topic) isKnown() bool {
	switch t {
	case RepositoryTopic, ReportTopic, DamageTopic, EventTopic, WebhookTopic, RuleTopic, ImportTopic, LoginTopic,
		UploadTopic, QuestionTopic, AnswerTopic, schemaTopic, controlTopic:
		return true
	}
	return false
}

// A Change says that a transaction changed something. Name is "" for a topic without names.
type Change struct {
	Topic Topic
	Name  string
}

// MarshalJSON implements [json.Marshaler].
func (c Change) MarshalJSON() ([]byte, error) {
	return json.Marshal([2]string{string(c.Topic), c.Name})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (c *Change) UnmarshalJSON(text []byte) error {
	var pair [2]string
	err := json.Unmarshal(text, &pair)
	c.Topic, c.Name = Topic(pair[0]), pair[1]
	return err
}

const (
	// maxNames is how many changes a transaction records; if there are more, it records [everything].
	maxNames = 1000
	// keptChanges is about how many transactions are recorded. A process that has not read for so long
	// forgets everything.
	keptChanges, trimEvery = 100_000, 1000
	// everything is the topic of a transaction that changed too much to name it.
	everything Topic = "everything"
)

// changesChannel is the channel on which other processes learn of a change. The payload is the
// process.
const changesChannel = "ferry_changes"

// Share makes the database record what each transaction changes, for other processes. It must be
// called before any other use of the database.
func (db *DB) Share() {
	db.process = strings.ToLower(rand.Text())
	db.Long().process = db.process
}

// Shared reports whether other processes use the database; see [DB.Share].
func (db *DB) Shared() bool { return db.process != "" }

// A recording is what a transaction has changed so far.
type recording struct {
	changes []Change
	known   map[Change]bool
}

// Changed records that the transaction changes something that processes keep in memory.
func (tx *Tx) Changed(topic Topic, name string) {
	c := Change{topic, name}
	if r := tx.recording; r != nil && !r.known[c] && len(r.changes) <= maxNames {
		r.known[c] = true
		r.changes = append(r.changes, c)
	}
}

// recorded returns fn with the recording of its changes, if other processes use the database.
func (db *DB) recorded(fn func(*Tx) error) func(*Tx) error {
	if !db.Shared() {
		return fn
	}
	return func(tx *Tx) error {
		tx.recording = &recording{known: map[Change]bool{}}
		if err := fn(tx); err != nil {
			return err
		}
		return tx.record(db)
	}
}

// record writes the changes of the transaction.
func (tx *Tx) record(db *DB) error {
	changes := tx.recording.changes
	if len(changes) == 0 {
		return nil
	}
	if len(changes) > maxNames {
		changes = []Change{{Topic: everything}}
	}
	text, err := json.Marshal(changes)
	if err != nil {
		return err
	}
	const insert = `INSERT INTO changes (id, process, changed)
		SELECT COALESCE(MAX(id), 0) + 1, $1, $2 FROM changes RETURNING id`
	query := insert
	if db.dialect.postgres {
		query = `WITH added AS (` + insert + `) SELECT id FROM added, pg_notify('` + changesChannel + `', $1)`
	}
	id, err := get[int64](tx, "record changes", query, db.process, string(text))
	if err != nil || id%trimEvery != 0 {
		return err
	}
	return tx.do("trim changes", `DELETE FROM changes WHERE id <= $1`, id-keptChanges)
}

// LastChange returns the number of the last transaction that was recorded; 0 is none.
func (tx *Tx) LastChange() (int64, error) {
	return get[int64](tx, "read changes", `SELECT COALESCE(MAX(id), 0) FROM changes`)
}

// Changes are what transactions after a certain one have changed.
type Changes struct {
	All   bool  // anything may have changed: the changes are not known
	Last  int64 // the number of the last transaction
	named map[Topic][]string
	// ControlWrites is how many transactions wrote the control plane.
	ControlWrites int64
}

// Names returns the names of a topic that changed.
func (c Changes) Names(t Topic) []string { return c.named[t] }

// Has reports whether something of a topic changed.
func (c Changes) Has(t Topic) bool { return c.All || len(c.named[t]) > 0 }

// ControlRows returns the rows of the control plane that changed.
func (c Changes) ControlRows() (rows []ControlRow) {
	for _, name := range c.named[controlTopic] {
		table, row, _ := strings.Cut(name, "/")
		rows = append(rows, ControlRow{ControlTable(table), row})
	}
	return rows
}

// maxRead is how many transactions are read at a time.
const maxRead = 5000

type changesRow struct {
	id      int64
	changed string
}

func (r *changesRow) fields() []any { return []any{&r.id, &r.changed} }

// changes returns the changes in a row. If a newer version wrote them in another form, anything may have
// changed.
func (r *changesRow) changes() (all []Change) {
	if json.Unmarshal([]byte(r.changed), &all) != nil {
		return []Change{{Topic: everything}}
	}
	return all
}

// ChangesAfter returns what transactions after the one with a number changed, except those of the
// process without; "" excludes none.
func (tx *Tx) ChangesAfter(after int64, without string) (c Changes, err error) {
	c.named = map[Topic][]string{}
	if c.Last, err = tx.LastChange(); err != nil || c.Last == after {
		return c, err
	}
	first, err := get[int64](tx, "read changes", `SELECT MIN(id) FROM changes`)
	if err != nil {
		return c, err
	}
	if after < first-1 || c.Last < after || c.Last-after > maxRead {
		c.All = true
		return c, nil
	}
	rows, err := list[changesRow](tx, "read changes", `SELECT id, changed FROM changes
		WHERE id > $1 AND process <> $2 ORDER BY id`, after, without)
	for _, row := range rows {
		changed := row.changes()
		if slices.ContainsFunc(changed, func(one Change) bool { return one.Topic == controlTopic }) {
			c.ControlWrites++
		}
		for _, one := range changed {
			if !one.Topic.isKnown() {
				c.All = true // also for everything
			} else if !slices.Contains(c.named[one.Topic], one.Name) {
				c.named[one.Topic] = append(c.named[one.Topic], one.Name)
			}
		}
	}
	return c, wrap(err, fmt.Sprintf("read changes after %d", after))
}
