package control

import (
	"context"

	"ferry/internal/metadb"
	"ferry/internal/mirror"
)

// keptAudit is how many entries the audit log has at most.
const keptAudit = 100_000

// A Caller is who asks for something.
type Caller struct {
	Name   string // of the operator
	Source string // the address that the request came from
	Host   string // the address, as host:port, at which it reached this instance
}

// write runs fn in a transaction that changes object, and notes in the audit
// log who did. It is how the management API writes; a connected registry
// refuses, for all of this is its parent's.
func (s *Service) write(ctx context.Context, by Caller, action, object string, fn func(*metadb.Tx) error) error {
	return s.writeBy(ctx, s.change, by, action, object, fn)
}

// writeHere is write for what connected registries are not told of.
func (s *Service) writeHere(ctx context.Context, by Caller, action, object string, fn func(*metadb.Tx) error) error {
	return s.writeBy(ctx, s.db.Update, by, action, object, fn)
}

func (s *Service) writeBy(ctx context.Context, run func(context.Context, func(*metadb.Tx) error) error, by Caller, action, object string, fn func(*metadb.Tx) error) error {
	if s.self != "" {
		return problem(403, codeManaged, "%s is managed by the parent registry", object).
			hint("make the change in the root registry; it arrives with the next sync")
	}
	err := run(ctx, func(tx *metadb.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return s.audit(tx, by, action, object)
	})
	if err == nil {
		s.log.Info("changed", "actor", by.Name, "source", by.Source, "action", action, "object", object)
	}
	return err
}

// audit notes what was done. No detail of it holds a secret, since there is
// none but the object's name.
func (s *Service) audit(tx *metadb.Tx, by Caller, action, object string) error {
	return tx.AddAudit(metadb.AuditEntry{At: s.now(), Actor: by.Name, Source: by.Source, Action: action, Object: object}, keptAudit)
}

// noteImport notes in the audit log who began an import.
func (s *Service) noteImport(ctx context.Context, by Caller, i mirror.Import) error {
	return s.writeHere(ctx, by, "import", "imports/"+i.ID, func(*metadb.Tx) error { return nil })
}
