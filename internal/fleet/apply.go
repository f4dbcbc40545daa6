package fleet

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/wire"
)

// settingDesired is the setting with the version of the last applied desired state. Its name changes when
// a desired state has something that an earlier build ignores, so that an updated instance asks again.
const settingDesired = "desired-version-2"

// Apply replaces the state of this connected registry with the desired state from its parent, in
// one transaction: rows that the desired state does not contain are deleted. Activations below this
// instance and their reports stay, unless the parent ended the activation. Applying the same
// version again does nothing.
func (s *Service) Apply(ctx context.Context, d *wire.Desired) error {
	if err := s.checkDesired(d); err != nil {
		return fmt.Errorf("apply desired state: %w", err)
	}
	if had, err := s.DesiredVersion(ctx); err != nil || had == d.Version {
		return err
	}
	var below passwordsBelow
	err := s.control.Change(ctx, func(tx *metadb.Tx) (err error) {
		if below, err = readPasswordsBelow(tx); err != nil {
			return err
		}
		below.Accepted, below.Joined = d.OwnToken != nil, stillJoined(below.Joined, d)
		if err := s.applyRegistries(tx,
			append([]wire.ConnectedRegistry{d.Self}, d.ConnectedRegistries...)); err != nil {
			return err
		}
		if err := applyTokens(tx, s.withJoined(d, below.Joined)); err != nil {
			return err
		}
		if err := below.write(tx); err != nil {
			return err
		}
		if err := s.applyScopeMaps(tx, d.ScopeMaps); err != nil {
			return err
		}
		return tx.SetSetting(settingDesired, d.Version)
	})
	if err != nil {
		return fmt.Errorf("apply desired state: %w", err)
	}
	s.setPasswordsBelow(below)
	s.forgetDeleted()
	return nil
}

// checkDesired returns an error for a desired state that this instance cannot use, before it
// replaces the current state.
func (s *Service) checkDesired(d *wire.Desired) error {
	if s.control.Self() == "" {
		return errors.New("this is a root registry")
	}
	if d.Version == "" {
		return errors.New("it has no version")
	}
	if !s.control.IsSelf(d.Self.Name) {
		return fmt.Errorf("it is for %.50q, and this is %s", d.Self.Name, s.control.Self())
	}
	for _, r := range append([]wire.ConnectedRegistry{d.Self}, d.ConnectedRegistries...) {
		if err := checkSettings(&r.Spec); err != nil {
			return fmt.Errorf("connected registry %.50q: %w", r.Name, err)
		}
	}
	anonymous := 0
	for _, m := range d.ScopeMaps {
		_, err := auth.ParsePermissions(actionsOf(m))
		if err == nil && len(m.AnonymousNetworks) > 0 {
			anonymous++
			_, err = auth.ParseNetworks(m.AnonymousNetworks)
		}
		if err != nil {
			return fmt.Errorf("scope map %.100q: %w", m.Name, err)
		}
	}
	return control.CheckAnonymous(anonymous)
}

// wireOf returns the wire form of a row.
func wireOf(row metadb.ConnectedRegistry, v control.Spec) wire.ConnectedRegistry {
	return wire.ConnectedRegistry{
		Name: row.Name, Parent: row.Parent, SyncToken: row.SyncToken, InstanceID: row.InstanceID,
		CreatedAt: row.CreatedAt, Spec: v.Spec,
	}
}

func (s *Service) applyRegistries(tx *metadb.Tx, wanted []wire.ConnectedRegistry) error {
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return err
	}
	names := map[string]bool{}
	for _, r := range wanted {
		names[r.Name] = true
	}
	for _, row := range rows {
		if !names[row.Name] { // first, because a name that differs only in case may follow
			if err := tx.DeleteConnectedRegistry(row.Name); err != nil {
				return err
			}
		}
	}
	for _, r := range wanted {
		if err := s.applyRegistry(tx, r); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) applyRegistry(tx *metadb.Tx, r wire.ConnectedRegistry) error {
	row, err := tx.ConnectedRegistry(r.Name)
	if err != nil && !errors.Is(err, metadb.ErrNotFound) {
		return err
	}
	ended := false
	if err == nil {
		old, err := control.SpecOf(row)
		if err != nil {
			return err
		}
		ended = r.Epoch > old.Epoch
	} else {
		row.InstanceID = r.InstanceID // this instance is new, but its descendants may be activated already
	}
	row.Name, row.Parent, row.SyncToken, row.CreatedAt = r.Name, r.Parent, r.SyncToken, r.CreatedAt
	if err := control.PutSpec(tx, row, control.Spec{Spec: r.Spec}); err != nil || !ended {
		return err
	}
	return tx.SetActivation(row.Name, "") // the last report stays
}

func applyTokens(tx *metadb.Tx, tokens []wire.Token) error {
	rows, err := tx.Tokens()
	if err != nil {
		return err
	}
	var wanted []metadb.Token
	for _, t := range tokens {
		row := metadb.Token{Name: t.Name, ScopeMap: t.ScopeMap, Status: t.Status, CreatedAt: t.CreatedAt}
		for _, p := range t.Passwords {
			row.Passwords = append(row.Passwords, metadb.Password(p))
		}
		wanted = append(wanted, row)
	}
	name := func(t metadb.Token) string { return t.Name }
	return replaceRows(rows, wanted, name, sameToken, tx.PutToken, tx.DeleteToken)
}

// sameToken reports whether two rows are equal, apart from their creation times.
func sameToken(a, b metadb.Token) bool {
	same := func(p, q metadb.Password) bool {
		return p.Name == q.Name && p.Hash == q.Hash && p.CreatedAt.Equal(q.CreatedAt) &&
			p.ExpiresAt.Equal(q.ExpiresAt) && p.Rotated == q.Rotated
	}
	return a.ScopeMap == b.ScopeMap && a.Status == b.Status && slices.EqualFunc(a.Passwords, b.Passwords, same)
}

func (s *Service) applyScopeMaps(tx *metadb.Tx, scopeMaps []wire.ScopeMap) error {
	rows, err := tx.ScopeMaps()
	if err != nil {
		return err
	}
	var wanted []metadb.ScopeMap
	for _, m := range scopeMaps {
		wanted = append(wanted, metadb.ScopeMap{
			Name: m.Name, Type: api.UserDefined, Actions: actionsOf(m), AnonymousNetworks: m.AnonymousNetworks,
			CreatedAt: s.now(),
		})
	}
	name := func(m metadb.ScopeMap) string { return m.Name }
	same := func(a, b metadb.ScopeMap) bool {
		return slices.Equal(a.Actions, b.Actions) && slices.Equal(a.AnonymousNetworks, b.AnonymousNetworks)
	}
	return replaceRows(rows, wanted, name, same, tx.PutScopeMap, tx.DeleteScopeMap)
}

// actionsOf returns all actions of a scope map.
func actionsOf(m wire.ScopeMap) []string {
	if len(m.ActionsWithExclusions) > 0 {
		return m.ActionsWithExclusions
	}
	return m.Actions
}

// replaceRows writes each wanted row that differs from the existing row of the same name, and
// deletes the rows that are not wanted.
func replaceRows[R any](
	rows, wanted []R, name func(R) string, same func(a, b R) bool, put func(R) error, remove func(string) error,
) error {
	had := map[string]R{}
	for _, row := range rows {
		had[name(row)] = row
	}
	for _, row := range wanted {
		old, ok := had[name(row)]
		delete(had, name(row))
		if ok && same(old, row) {
			continue
		}
		if err := put(row); err != nil {
			return err
		}
	}
	for name := range had {
		if err := remove(name); err != nil {
			return err
		}
	}
	return nil
}

// DesiredVersion returns the version of the last applied desired state; "" before the first one.
func (s *Service) DesiredVersion(ctx context.Context) (string, error) {
	return metadb.Read(ctx, s.db, func(tx *metadb.Tx) (string, error) { return tx.Setting(settingDesired) })
}

// Ready reports whether this instance knows the connected registries below it. A root always does;
// a connected registry does once it has received a desired state.
func (s *Service) Ready() bool {
	self := s.control.Self()
	return self == "" || s.control.State().Registry(self) != nil
}

// Own returns the desired row of this connected registry. It is nil in a root, and before the first
// desired state. It reads the database, and therefore shows whether the database answers.
func (s *Service) Own(ctx context.Context) (*wire.ConnectedRegistry, error) {
	if s.control.Self() == "" {
		return nil, nil
	}
	row, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (*metadb.ConnectedRegistry, error) {
		return control.OrNil(tx.ConnectedRegistry(s.control.Self()))
	})
	if row == nil {
		return nil, err
	}
	v, err := control.SpecOf(*row)
	own := wireOf(*row, v)
	own.InstanceID = s.control.InstanceID()
	return &own, err
}
