package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

func tokenOf(row metadb.Token) api.Token {
	t := api.Token{
		ID: api.TokenID(row.Name), Name: row.Name, Type: api.TypeToken,
		Status: row.Status, Credentials: credentialsOf(row),
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
	if row.ScopeMap != "" {
		t.ScopeMapID = new(api.ScopeMapID(row.ScopeMap))
	}
	return t
}

func credentialsOf(row metadb.Token) api.TokenCredentials {
	c := api.TokenCredentials{Username: row.Name, Passwords: []api.TokenPassword{}, Certificates: []string{}}
	for _, p := range row.Passwords {
		c.Passwords = append(c.Passwords, api.TokenPassword{
			Name: p.Name, CreationTime: p.CreatedAt, Expiry: api.Time(p.ExpiresAt),
		})
	}
	return c
}

// reveal adds the values of new passwords, by slot.
func reveal(c *api.TokenCredentials, values map[string]string) {
	for i := range c.Passwords {
		p := &c.Passwords[i]
		p.Value = api.Text(values[p.Name])
	}
}

// Tokens returns every token, by name.
func (s *Service) Tokens(ctx context.Context) ([]api.Token, error) {
	return readAll(ctx, s, (*metadb.Tx).Tokens, tokenOf)
}

// Token returns the token name.
func (s *Service) Token(ctx context.Context, name string) (api.Token, error) {
	row, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (metadb.Token, error) { return tx.Token(name) })
	return tokenOf(row), MapNotFound(err, "token", name)
}

// PutToken creates a token, or replaces it together with its passwords. Only this result contains
// the values of the new passwords.
func (s *Service) PutToken(
	ctx context.Context, by Caller, name string, put api.TokenPut, when Precondition,
) (t api.Token, err error) {
	var values map[string]string
	err = s.Write(ctx, by, "write", "tokens/"+name, func(tx *metadb.Tx) error {
		if err := checkName("a token", name); err != nil {
			return err
		}
		old, err := tx.Token(name)
		exists, err := when.CheckPut(old.Version, err, "token", name)
		if err != nil {
			return err
		}
		if !exists {
			if err := s.CheckNewToken(tx, name); err != nil {
				return err
			}
		}
		row := metadb.Token{Name: name, CreatedAt: s.now()}
		put.Status = cmp.Or(put.Status, api.Enabled)
		if err := s.setToken(tx, by, &row, &put.ScopeMap, &put.Status); err != nil {
			return err
		}
		if values, err = s.SetPasswords(&row, put.Passwords); err != nil {
			return err
		}
		t, err = putToken(tx, row)
		return err
	})
	reveal(&t.Credentials, values)
	if err == nil {
		t.Warnings = s.tokenWarnings(by, s.State(), name, maxPermissionWarnings)
	}
	return t, err
}

// CheckNewToken returns an error if a token with this name may not be created.
func (s *Service) CheckNewToken(tx *metadb.Tx, name string) error {
	operators, err := tx.Operators()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(operators, func(o metadb.Operator) bool { return strings.EqualFold(o.Name, name) }) {
		return Conflict("'%s' is the name of an operator, so no token can have it", name).
			WithHint("take another name, or delete the operator: ferry operator delete -n %s", name).
			Naming(KindOperator + "/" + name)
	}
	n, err := tx.CountTokens()
	if err == nil && n >= s.maxima.Tokens {
		err = tooMany("tokens", n, "tokens")
	}
	return err
}

// setToken sets the fields that are not nil.
func (s *Service) setToken(tx *metadb.Tx, by Caller, row *metadb.Token, scopeMap, status *string) error {
	if scopeMap != nil {
		row.ScopeMap = strings.TrimPrefix(*scopeMap, api.ScopeMapID(""))
		if err := s.CheckReference(by, KindScopeMap, row.ScopeMap); err != nil {
			return err
		}
		if _, err := tx.ScopeMap(row.ScopeMap); err != nil {
			return MapNotFound(err, "scope map", row.ScopeMap)
		}
	}
	if status != nil {
		row.Status = strings.ToLower(*status)
		if row.Status != api.Enabled && row.Status != api.Disabled {
			return Invalid("'%.20s' is not a status of a token: want enabled or disabled", *status)
		}
	}
	return nil
}

// putToken writes a token and returns the result.
func putToken(tx *metadb.Tx, row metadb.Token) (api.Token, error) {
	if err := tx.PutToken(row); err != nil {
		return api.Token{}, err
	}
	row, err := tx.Token(row.Name)
	return tokenOf(row), err
}

// changeToken writes a token as edit modifies it, and returns the result.
func (s *Service) changeToken(
	ctx context.Context, by Caller, action, name string, when Precondition, edit func(*metadb.Tx, *metadb.Token) error,
) (t api.Token, err error) {
	err = s.Write(ctx, by, action, "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err := when.CheckChange(row.Version, err, "token", name); err != nil {
			return err
		}
		if err := edit(tx, &row); err != nil {
			return err
		}
		t, err = putToken(tx, row)
		return err
	})
	return t, err
}

// UpdateToken changes the scope map or the status of a token.
func (s *Service) UpdateToken(
	ctx context.Context, by Caller, name string, patch api.TokenPatch, when Precondition,
) (api.Token, error) {
	t, err := s.changeToken(ctx, by, "update", name, when, func(tx *metadb.Tx, row *metadb.Token) error {
		return s.setToken(tx, by, row, patch.ScopeMap, patch.Status)
	})
	if err == nil {
		t.Warnings = s.tokenWarnings(by, s.State(), name, maxPermissionWarnings)
	}
	return t, err
}

// GenerateCredentials generates passwords of a token, which replace those in their slots. Only this
// result contains their values.
func (s *Service) GenerateCredentials(
	ctx context.Context, by Caller, name string, post api.CredentialsPost,
) (api.TokenCredentials, error) {
	var values map[string]string
	generate := func(_ *metadb.Tx, row *metadb.Token) (err error) {
		var put []api.PasswordPut
		for _, slot := range post.Passwords {
			put = append(put, api.PasswordPut{Name: slot, Expiry: post.Expiry})
		}
		values, err = s.SetPasswords(row, put)
		return err
	}
	t, err := s.changeToken(ctx, by, "generate-credentials", name, Precondition{}, generate)
	reveal(&t.Credentials, values)
	return t.Credentials, err
}

// DeleteCredential deletes the password in a slot of a token.
func (s *Service) DeleteCredential(ctx context.Context, by Caller, name, slot string) error {
	empty := func(_ *metadb.Tx, row *metadb.Token) error {
		i := slices.IndexFunc(row.Passwords, func(p metadb.Password) bool { return p.Name == slot })
		if i < 0 {
			return Refuse(api.CodeNotFound, "the token '%s' has no %.20s", name, slot).
				WithHint("see ferry token show -n %s", name)
		}
		row.Passwords = slices.Delete(row.Passwords, i, i+1)
		return nil
	}
	_, err := s.changeToken(ctx, by, "delete-credential", name, Precondition{}, empty)
	return err
}

// DeleteToken deletes a token. A sync token cannot be deleted while its connected registry exists.
func (s *Service) DeleteToken(ctx context.Context, by Caller, name string, when Precondition) error {
	return s.Write(ctx, by, "delete", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err := when.CheckChange(row.Version, err, "token", name); err != nil {
			return err
		}
		return s.DropToken(tx, name)
	})
}

// DropToken deletes a token, and removes it from the client tokens of every connected registry.
func (s *Service) DropToken(tx *metadb.Tx, name string) error {
	state := s.State()
	for _, user := range state.entries(state.registriesByToken, name) {
		row, err := tx.ConnectedRegistry(user)
		if errors.Is(err, metadb.ErrNotFound) {
			continue // it was deleted in the same transaction
		}
		if err != nil {
			return err
		}
		if row.SyncToken == name {
			return Conflict("the token '%s' is the sync token of the connected registry '%s'", name, row.Name).
				WithHint("delete the connected registry first: ferry connected-registry delete -n %s --cleanup",
					row.Name).Naming(KindRegistry + "/" + row.Name)
		}
		spec, err := SpecOf(row)
		if err != nil {
			return err
		}
		spec.ClientTokens = slices.DeleteFunc(spec.ClientTokens, func(t string) bool { return t == name })
		if err := PutSpec(tx, row, spec); err != nil {
			return err
		}
	}
	return tx.DeleteToken(name)
}

// SetPasswords generates passwords, which replace those in their slots, and returns their values by
// slot.
func (s *Service) SetPasswords(row *metadb.Token, passwords []api.PasswordPut) (map[string]string, error) {
	values := map[string]string{}
	for _, p := range passwords {
		if p.Name != api.Password1 && p.Name != api.Password2 {
			return nil, Invalid("'%.20s' is not a password of a token: want password1 or password2", p.Name)
		}
		if _, twice := values[p.Name]; twice {
			return nil, Invalid("%s is given twice", p.Name)
		}
		made := metadb.Password{Name: p.Name, CreatedAt: s.now().UTC().Truncate(time.Millisecond)}
		if p.Expiry != nil {
			if !p.Expiry.After(s.now()) {
				return nil, Invalid("the expiry of %s, %s, is over", p.Name, p.Expiry.UTC().Format(time.RFC3339))
			}
			made.ExpiresAt = p.Expiry.UTC()
		}
		value, err := auth.GeneratePassword(rand.Reader)
		if err != nil {
			return nil, err
		}
		made.Hash, values[p.Name] = auth.HashPassword(value), value
		row.Passwords = slices.DeleteFunc(row.Passwords, func(old metadb.Password) bool { return old.Name == p.Name })
		row.Passwords = append(row.Passwords, made)
	}
	slices.SortFunc(row.Passwords, func(a, b metadb.Password) int { return strings.Compare(a.Name, b.Name) })
	return values, nil
}
