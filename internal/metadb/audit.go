package metadb

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// An AuditEntry is a row of audit: a write through the management API, a deletion or a change
// of locks through the registry API, or a failed login, here or at a descendant.
type AuditEntry struct {
	ID       int64
	At       time.Time
	Actor    string // name of an operator or a token, or another origin of the change; "" if nobody logged in
	Sender   string // the caller's address
	Action   string // "create", "delete", ...
	Object   string // "tokens/line1"
	Detail   string // details, such as the locks, or the number of other objects
	Registry string // the connected registry that wrote it; "" is this instance
	Origin   string // identifies an entry of another instance there
}

func (e *AuditEntry) fields() []any {
	return []any{&e.ID, at(&e.At), &e.Actor, &e.Sender, &e.Action, &e.Object, &e.Detail, &e.Registry, &e.Origin}
}

// OriginOf returns what identifies the entry at other instances.
func (e AuditEntry) OriginOf() string {
	if e.Origin != "" {
		return e.Origin
	}
	return originOf(e.ID, e.At)
}

const auditColumns = `id, at, actor, sender, action, object, detail, registry, origin`

// audit is the counter that numbers the entries of the audit log.
const audit = "audit"

// auditSlack is how many entries more than the limit the audit log may have for a while, so that
// not every write has to count them.
const auditSlack = 200

// AddAudit appends an entry of this instance to the audit log under the next number, and deletes all
// but about the last keep of them.
func (tx *Tx) AddAudit(e AuditEntry, keep int) error {
	e.Registry, e.Origin = "", ""
	id, err := tx.addAudit(e)
	if err == nil && (keep < auditSlack || id%auditSlack == 0) {
		err = tx.TrimAudit("", keep)
	}
	return wrap(err, "write audit entry "+strconv.FormatInt(id, 10))
}

// AddAuditOf appends an entry of another instance to the audit log, unless it is there already.
func (tx *Tx) AddAuditOf(e AuditEntry) error {
	known, err := get[int](tx, "read audit log", `SELECT COUNT(*) FROM audit WHERE registry = $1 AND origin = $2
		AND registry <> ''`, e.Registry, e.Origin)
	if err == nil && known == 0 {
		_, err = tx.addAudit(e)
	}
	return wrap(err, "write audit entry of "+e.Registry)
}

func (tx *Tx) addAudit(e AuditEntry) (id int64, err error) {
	if id, err = tx.Next(audit); err != nil {
		return 0, err
	}
	_, err = tx.exec(`INSERT INTO audit (`+auditColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		id, millis(e.At), e.Actor, e.Sender, e.Action, e.Object, e.Detail, e.Registry, e.Origin)
	return id, err
}

// TrimAudit deletes all but the last keep entries that a connected registry, or this instance if
// registry is "", has written.
func (tx *Tx) TrimAudit(registry string, keep int) error {
	return tx.do("delete audit entries", `DELETE FROM audit WHERE registry = $1
		AND id <= COALESCE((SELECT id FROM audit
		WHERE registry = $1 ORDER BY id DESC LIMIT 1 OFFSET $2), 0)`, registry, keep)
}

// TrimAuditLog deletes the entries that are older than a time, and all but the last keep entries of
// other instances.
func (tx *Tx) TrimAuditLog(before time.Time, keep int) error {
	err := tx.do("delete audit entries", `DELETE FROM audit WHERE at < $1`, millis(before))
	if err != nil {
		return err
	}
	return tx.do("delete audit entries", `DELETE FROM audit WHERE registry <> ''
		AND id <= COALESCE((SELECT id FROM audit
		WHERE registry <> '' ORDER BY id DESC LIMIT 1 OFFSET $1), 0)`, keep)
}

// AuditAfter returns the first limit entries with a higher number than after, in order, for the
// parent: those of descendants and, with own, those of this instance.
func (tx *Tx) AuditAfter(after int64, own bool, limit int) ([]AuditEntry, error) {
	return list[AuditEntry](tx, "read audit log", `SELECT `+auditColumns+` FROM audit
		WHERE id > $1 AND ($2 = 1 OR registry <> '') ORDER BY id LIMIT $3`, after, flag(own), limit)
}

// An AuditQuery selects entries of the audit log. A zero field, other than Limit, selects all
// of them.
type AuditQuery struct {
	Before       int64     // only entries with a lower number
	Since, Until time.Time // only entries from Since on, and before Until
	Actor        string    // with what is below it: "admin" is also "admin/key"
	Action       string
	Object       string // the object, or what is before a slash in it: "tokens" is all tokens
	Registry     string // in any case; [ThisInstance] is this instance
	Limit        int    // of the newest entries
}

// ThisInstance selects the entries of this instance in an [AuditQuery]. No connected registry has
// this name.
const ThisInstance = "."

// Audit returns the entries that q selects, newest first.
func (tx *Tx) Audit(q AuditQuery) ([]AuditEntry, error) {
	before, until := int64(math.MaxInt64), int64(math.MaxInt64)
	if q.Before > 0 {
		before = q.Before
	}
	if !q.Until.IsZero() {
		until = millis(q.Until)
	}
	below := func(name string) string { return likeEscaper.Replace(strings.TrimSuffix(name, "/")) + "/%" }
	return list[AuditEntry](tx, "read audit log", `SELECT `+auditColumns+` FROM audit
		WHERE id < $1 AND at >= $2 AND at < $3 AND ($4 = '' OR actor = $4 OR actor LIKE $10 ESCAPE '!')
		AND ($5 = '' OR action = $5)
		AND ($6 = '' OR object = $6 OR object LIKE $7 ESCAPE '!')
		AND ($8 = '' OR LOWER(registry) = LOWER($8) OR $8 = '.' AND registry = '') ORDER BY id DESC LIMIT $9`,
		before, millis(q.Since), until, q.Actor, q.Action, strings.TrimSuffix(q.Object, "/"), below(q.Object),
		q.Registry, q.Limit, below(q.Actor))
}

// likeEscaper makes a text match itself in a pattern of LIKE with ESCAPE '!'.
var likeEscaper = strings.NewReplacer("!", "!!", "%", "!%", "_", "!_")
