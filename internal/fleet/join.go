package fleet

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"maps"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/gateway"
	"ferry/internal/metadb"
	"ferry/internal/schedule"
	"ferry/internal/wire"
)

// makeJoinToken makes a join token for a connected registry, which replaces the one before it.
func (s *Service) makeJoinToken(tx *metadb.Tx, row metadb.ConnectedRegistry, validFor string) (string, error) {
	d, err := schedule.ParseJoin(validFor)
	if err != nil {
		return "", control.Invalid("%v", err)
	}
	secret, err := auth.GeneratePassword(rand.Reader)
	if err != nil {
		return "", err
	}
	spec, err := control.SpecOf(row)
	if err != nil {
		return "", err
	}
	now := s.passwordTime()
	spec.Join = &wire.JoinToken{Hash: auth.HashPassword(secret), CreatedAt: now, ExpiresAt: now.Add(d)}
	return secret, control.PutSpec(tx, row, spec)
}

// Join exchanges a join token for the password of an instance. A connected registry, as a parent, does
// so with what it last heard from the root: the password is valid here at once, and everywhere when the
// root has heard of it. Implements [gateway.ControlPlane].
func (s *Service) Join(ctx context.Context, syncToken, joinHash, from string, q wire.JoinRequest) error {
	state := s.control.State()
	r := state.SyncedBy(syncToken)
	want, valid := wire.JoinToken{Hash: strings.Repeat("0", len(joinHash))}, false
	if r != nil && s.control.IsChild(r.ConnectedRegistry) && r.Settings.Join != nil {
		want, valid = *r.Settings.Join, true
	}
	// The time of the comparison says nothing of the reason of a refusal.
	same := subtle.ConstantTimeCompare([]byte(want.Hash), []byte(joinHash)) == 1
	if !same || !valid || !strings.EqualFold(q.Name, r.Name) || !hexHash.MatchString(q.Hash) {
		return gateway.ErrJoinRefused
	}
	p := wire.PasswordChange{Name: r.Name, Hash: q.Hash, Join: joinHash, InstanceID: q.InstanceID}
	if token := state.Token(r.SyncToken); token == nil || token.Status != api.Enabled {
		return gateway.ErrJoinRefused
	}
	s.mu.Lock()
	pending, waits := s.joined[strings.ToLower(r.Name)]
	s.mu.Unlock()
	switch {
	case want.UsedBy == p.InstanceID && want.UsedFor == p.Hash, waits && pending == p:
		return nil // the answer was lost
	case want.UsedBy != "", waits && pending.Join == p.Join, !s.now().Before(want.ExpiresAt):
		return gateway.ErrJoinRefused
	case s.control.Self() != "":
		return s.joinHere(ctx, p, from)
	}
	return s.acceptJoin(ctx, p, from)
}

// acceptJoin gives an instance that has exchanged a join token the password that it has made, and
// deletes those that earlier instances have made. The parent of the instance has checked the expiry.
func (s *Service) acceptJoin(ctx context.Context, p wire.PasswordChange, from string) error {
	if r := s.control.State().Registry(p.Name); r == nil || r.Settings.Join == nil || r.Settings.Join.UsedBy != "" {
		return gateway.ErrJoinRefused // without a transaction
	}
	return s.control.Change(ctx, func(tx *metadb.Tx) error {
		row, err := tx.ConnectedRegistry(p.Name)
		if err != nil {
			return gateway.ErrJoinRefused
		}
		spec, err := control.SpecOf(row)
		if err != nil {
			return err
		}
		j := spec.Join
		if j == nil || j.UsedBy != "" || subtle.ConstantTimeCompare([]byte(j.Hash), []byte(p.Join)) != 1 {
			return gateway.ErrJoinRefused
		}
		token, err := tx.Token(row.SyncToken)
		if err != nil {
			return err
		}
		token.Passwords = slices.DeleteFunc(slices.Clone(token.Passwords),
			func(old metadb.Password) bool { return old.Rotated })
		slot, ok := auth.JoinSlot(wirePasswords(token.Passwords), j.CreatedAt, s.now())
		if !ok {
			return gateway.ErrJoinRefused
		}
		setPassword(&token, metadb.Password{Name: slot, Hash: p.Hash, CreatedAt: s.passwordTime(), Rotated: true})
		used := *j
		used.UsedBy, used.UsedFor = p.InstanceID, p.Hash
		spec.Join = &used
		if err := control.PutSpec(tx, row, spec); err != nil {
			return err
		}
		if err := tx.PutToken(token); err != nil {
			return err
		}
		by := control.Caller{Name: row.SyncToken, Sender: from}
		return s.control.Audit(tx, by, "join", "connected-registries/"+row.Name)
	})
}

// pendingSlot is the slot of a password that this connected registry accepts, and that its root has
// not heard of yet.
const pendingSlot = "joined"

// joinHere accepts the password of an instance that has exchanged a join token, until the root's
// decision arrives with the desired state.
func (s *Service) joinHere(ctx context.Context, p wire.PasswordChange, from string) error {
	var v passwordsBelow
	err := s.control.Change(ctx, func(tx *metadb.Tx) (err error) {
		if v, err = readPasswordsBelow(tx); err != nil {
			return err
		}
		row, err := tx.ConnectedRegistry(p.Name)
		if err != nil {
			return gateway.ErrJoinRefused
		}
		token, err := tx.Token(row.SyncToken)
		if err != nil {
			return err
		}
		key := strings.ToLower(p.Name)
		if pending, ok := v.Joined[key]; ok && pending.Join == p.Join && pending != p {
			return gateway.ErrJoinRefused // another instance was first
		}
		if v.Joined = maps.Clone(v.Joined); v.Joined == nil {
			v.Joined = map[string]wire.PasswordChange{}
		}
		v.Joined[key] = p
		setPassword(&token, pendingPassword(p, s.passwordTime()))
		if err := tx.PutToken(token); err != nil {
			return err
		}
		if err := v.write(tx); err != nil {
			return err
		}
		by := control.Caller{Name: row.SyncToken, Sender: from}
		return s.control.Audit(tx, by, "join", "connected-registries/"+row.Name)
	})
	if err != nil {
		return err
	}
	s.setPasswordsBelow(v)
	s.reports.changed.Notify()
	return nil
}

func pendingPassword(p wire.PasswordChange, at time.Time) metadb.Password {
	return metadb.Password{Name: pendingSlot, Hash: p.Hash, CreatedAt: at, Rotated: true}
}

// stillJoined returns those of the passwords in joined on which a desired state does not decide: the
// root has neither accepted the exchange nor made another join token.
func stillJoined(joined map[string]wire.PasswordChange, d *wire.Desired) map[string]wire.PasswordChange {
	still := map[string]wire.PasswordChange{}
	for _, r := range d.ConnectedRegistries {
		p, ok := joined[strings.ToLower(r.Name)]
		if ok && r.Join != nil && r.Join.UsedBy == "" && r.Join.Hash == p.Join {
			still[strings.ToLower(r.Name)] = p
		}
	}
	return still
}

// withJoined returns the tokens of a desired state with the passwords in joined.
func (s *Service) withJoined(d *wire.Desired, joined map[string]wire.PasswordChange) []wire.Token {
	tokens := slices.Clone(d.Tokens)
	for _, r := range d.ConnectedRegistries {
		p, ok := joined[strings.ToLower(r.Name)]
		i := slices.IndexFunc(tokens, func(t wire.Token) bool { return t.Name == r.SyncToken })
		if !ok || i < 0 {
			continue
		}
		tokens[i].Passwords = append(slices.Clone(tokens[i].Passwords),
			wire.Password(pendingPassword(p, s.passwordTime())))
	}
	return tokens
}
