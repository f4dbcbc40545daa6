package metadb

import "time"

// An Uptime is a moment as ages are counted: for how many milliseconds the
// instance had run by then, all its runs together. A step of the wall clock does
// not move it, and while the instance does not run nothing grows older. It is for
// everything that is removed once it is old; what people read is a [time.Time].
type Uptime int64

// Add returns the moment d later.
func (u Uptime) Add(d time.Duration) Uptime { return u + Uptime(d.Milliseconds()) }

// Sub returns how much later u is than the moment from.
func (u Uptime) Sub(from Uptime) time.Duration { return time.Duration(u-from) * time.Millisecond }

// uptimeCounter is what the counter of the instance's uptime is called.
const uptimeCounter = "uptime"

// Uptime returns how long the instance had run when the database was opened, as far
// as [Tx.SaveUptime] noted it. What came after that, until a crash, does not count.
func (db *DB) Uptime() Uptime { return db.uptime }

// Uptime returns what [Tx.SaveUptime] noted last.
func (tx *Tx) Uptime() (Uptime, error) {
	return get[Uptime](tx, "read uptime", `SELECT COALESCE((SELECT value FROM counters WHERE name = $1), 0)`,
		uptimeCounter)
}

// SaveUptime notes how long the instance has run; a later moment that is noted stays.
func (tx *Tx) SaveUptime(now Uptime) error {
	return tx.do("write uptime", `INSERT INTO counters (name, value) VALUES ($1, $2)
		ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE counters.value < excluded.value`, uptimeCounter, now)
}
