package metadb

import "time"

// An Uptime is a moment from which ages are counted: for how many milliseconds the instance had
// run by then, all its runs together. A step of the wall clock does not move it, and nothing
// gets older while the instance does not run. It is for everything that is removed at some age.
// Times for people are [time.Time].
type Uptime int64

// Add returns the moment d later.
func (u Uptime) Add(d time.Duration) Uptime { return u + Uptime(d.Milliseconds()) }

// Sub returns how much later u is than from.
func (u Uptime) Sub(from Uptime) time.Duration { return time.Duration(u-from) * time.Millisecond }

// uptimeCounter is the name of the counter of the instance's uptime.
const uptimeCounter = "uptime"

// Uptime returns the uptime that [Tx.SaveUptime] had saved when the database was opened. The
// time between that and a crash does not count.
func (db *DB) Uptime() Uptime { return db.uptime }

// Uptime returns the uptime that [Tx.SaveUptime] saved last.
func (tx *Tx) Uptime() (Uptime, error) {
	return get[Uptime](tx, "read uptime", `SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0)`,
		uptimeCounter)
}

// SaveUptime saves how long the instance has run. It never lowers the saved uptime.
func (tx *Tx) SaveUptime(now Uptime) error {
	return tx.do("write uptime", `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE counters.value < excluded.value`,
		uptimeCounter, now)
}
