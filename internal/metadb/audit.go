package metadb

import (
	"math"
	"strconv"
	"time"
)

// An AuditEntry is a row of audit: a write through the management API, a deletion or a change
// of locks through the registry API, or a failed login.
type AuditEntry struct {
	ID     int64
	At     time.Time
	Actor  string // name of an operator or a token, or another origin of the change; "" if nobody logged in
	Sender string // the caller's address
	Action string // "create", "delete", ...
	Object string // "tokens/line1"
	Detail string // details, such as the locks, or the number of other objects
}

func (e *AuditEntry) fields() []any {
	return []any{&e.ID, at(&e.At), &e.Actor, &e.Sender, &e.Action, &e.Object, &e.Detail}
}

const auditColumns = `id, at, actor, sender, action, object, detail`

// audit is the counter that numbers the entries of the audit log.
const audit = "audit"

// AddAudit appends e to the audit log under the next number, and deletes all but the last keep
// entries.
func (tx *Tx) AddAudit(e AuditEntry, keep int64) error {
	id, err := tx.Next(audit)
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO audit (`+auditColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		id, millis(e.At), e.Actor, e.Sender, e.Action, e.Object, e.Detail)
	if err == nil {
		_, err = tx.exec(`DELETE FROM audit WHERE id <= $1`, id-keep)
	}
	return wrap(err, "write audit entry "+strconv.FormatInt(id, 10))
}

// An AuditQuery selects entries of the audit log. A zero field, other than Limit, selects all
// of them.
type AuditQuery struct {
	Before       int64     // only entries with a lower number
	Since, Until time.Time // only entries from Since on, and before Until
	Actor        string
	Limit        int // of the newest entries
}

// Audit returns the entries that q selects, newest first.
func (tx *Tx) Audit(q AuditQuery) ([]AuditEntry, error) {
	before, until := int64(math.MaxInt64), int64(math.MaxInt64)
	if q.Before > 0 {
		before = q.Before
	}
	if !q.Until.IsZero() {
		until = millis(q.Until)
	}
	return list[AuditEntry](tx, "read audit log", `SELECT `+auditColumns+` FROM audit
		WHERE id < $1 AND at >= $2 AND at < $3 AND ($4 = '' OR actor = $4) ORDER BY id DESC LIMIT $5`,
		before, millis(q.Since), until, q.Actor, q.Limit)
}
