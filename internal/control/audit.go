package control

import (
	"context"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
	"ferry/internal/terminal"
)

// keptAudit is the maximum number of entries in the audit log.
const keptAudit = 100_000

// A Caller is the operator of a request.
type Caller struct {
	Name   string // of the operator
	Key    string // the name of the API key; "" is none
	Sender string // the address that the request came from
	Host   string // the address, as host:port and perhaps a path, at which it reached this instance
	TLS    bool   // whether it reached that address over TLS
	Limits auth.Limits
}

// Actor returns the name of the caller in the audit log: the operator and, after a slash, the API key.
func (c Caller) Actor() string { return auth.ActorOf(c.Name, c.Key) }

// Write runs fn in a transaction that changes object, and writes an audit entry in the same
// transaction, which says what changed. The management API makes all its changes with it. A
// connected registry refuses, because its parent manages these resources. A change that is not
// within the caller's limits is refused, too; object must be of one of the kinds that [State.Sees]
// knows.
func (s *Service) Write(ctx context.Context, by Caller, action, object string, fn func(*metadb.Tx) error) error {
	if s.self != "" {
		return Refuse(api.CodeManaged, "%s is managed by the parent registry", object).
			WithHint("make the change in the root registry; it arrives with the next sync")
	}
	return s.WriteHere(ctx, by, action, object, fn)
}

// WriteHere is like [Service.Write], for resources that each instance has of its own, such as
// operators. A connected registry does not refuse.
func (s *Service) WriteHere(ctx context.Context, by Caller, action, object string, fn func(*metadb.Tx) error) error {
	err := s.change(ctx, func(tx *metadb.Tx) error {
		if err := s.checkBefore(tx, by, object); err != nil {
			return err
		}
		if err := fn(tx); err != nil {
			return s.hide(tx, by, err)
		}
		return s.checkAfter(tx, by, object)
	}, func(tx *metadb.Tx, old, next *State) error {
		return s.AuditNote(by.Actor(), by.Sender, action, object, changesOf(object, old, next))(tx)
	})
	if err == nil {
		s.log.Info("changed", "actor", by.Actor(), "sender", by.Sender, "action", action, "object", object)
	}
	return err
}

// Audit writes an audit entry without a detail.
func (s *Service) Audit(tx *metadb.Tx, by Caller, action, object string) error {
	return s.AuditNote(by.Actor(), by.Sender, action, object, "")(tx)
}

// AuditNote returns a function that writes an audit entry. It is for transactions that do not write the
// control plane, such as the deletion of content.
func (s *Service) AuditNote(actor, sender, action, object, detail string) func(*metadb.Tx) error {
	return func(tx *metadb.Tx) error {
		return tx.AddAudit(metadb.AuditEntry{
			At: s.now(), Actor: actor, Sender: sender, Action: action, Object: object, Detail: detail,
		}, keptAudit)
	}
}

// AuditLogin writes an audit entry of a person who logged in with a provider.
func (s *Service) AuditLogin(ctx context.Context, sender, name string) {
	by := Caller{Name: loggableName(name), Sender: sender}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout) // the client may be gone
	defer cancel()
	if err := s.AuditAlone(ctx, by, "login", "logins/"+by.Name, ""); err != nil {
		s.log.Error("login is not audited", "err", err)
	}
}

// AuditAlone writes an audit entry in a transaction of its own, for an action that has no other
// transaction here. It works in a root and in a connected registry. An action whose outcome is not known
// when it begins has a second entry, by [Service.AuditOutcome].
func (s *Service) AuditAlone(ctx context.Context, by Caller, action, object, detail string) error {
	return s.db.UpdateWithReserve(ctx, s.AuditNote(by.Actor(), by.Sender, action, object, detail))
}

// AuditOutcome writes how an action ended that [Service.AuditAlone] has recorded. It does so although ctx
// may have ended, because the action cannot be undone; the log has an error.
func (s *Service) AuditOutcome(ctx context.Context, by Caller, action, object, outcome string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), auditTimeout)
	defer cancel()
	outcome = terminal.Excerpt(outcome, maxOutcome)
	if err := s.AuditAlone(ctx, by, action, object, outcome); err != nil {
		s.log.Error("the outcome of an action is not audited", "actor", by.Actor(), "action", action, "object", object,
			"outcome", outcome, "err", err)
	}
}

// maxOutcome bounds the outcome of an action, in bytes.
const maxOutcome = 500

// AuditLog returns the entries of the audit log that q selects, newest first.
func (s *Service) AuditLog(ctx context.Context, q metadb.AuditQuery) ([]api.AuditEntry, error) {
	list := func(tx *metadb.Tx) ([]metadb.AuditEntry, error) { return tx.Audit(q) }
	return readAll(ctx, s, list, func(e metadb.AuditEntry) api.AuditEntry {
		return api.AuditEntry{
			ID: e.ID, Time: e.At, Actor: e.Actor, Sender: e.Sender,
			Action: e.Action, Object: e.Object, Detail: e.Detail, ConnectedRegistry: api.Text(e.Registry),
		}
	})
}
