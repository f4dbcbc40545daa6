package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// maxTokens is the reference's limit.
const maxTokens = 20_000

func tokenOf(row metadb.Token) api.Token {
	t := api.Token{
		ID: api.TokenID(row.Name), Name: row.Name, Status: row.Status, Credentials: credentialsOf(row, nil),
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
	if row.ScopeMap != "" {
		t.ScopeMapID = api.ScopeMapID(row.ScopeMap)
	}
	return t
}

// credentialsOf returns a token's slots, with the values of those that were
// made just now.
func credentialsOf(row metadb.Token, values map[string]string) api.TokenCredentials {
	c := api.TokenCredentials{Username: row.Name, Passwords: []api.TokenPassword{}}
	for _, p := range row.Passwords {
		password := api.TokenPassword{Name: p.Name, CreationTime: p.CreatedAt}
		if !p.ExpiresAt.IsZero() {
			password.Expiry = &p.ExpiresAt
		}
		if value, ok := values[p.Name]; ok {
			password.Value = &value
		}
		c.Passwords = append(c.Passwords, password)
	}
	return c
}

// Tokens returns every token, by name.
func (s *Service) Tokens(ctx context.Context) ([]api.Token, error) {
	return readAll(ctx, s, (*metadb.Tx).Tokens, tokenOf)
}

// Token returns the token name.
func (s *Service) Token(ctx context.Context, name string) (t api.Token, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		t = tokenOf(row)
		return MapNotFound(err, "token", name)
	})
	return t, err
}

// PutToken creates a token, or replaces it, passwords and all. The result
// alone has the values of the new passwords.
func (s *Service) PutToken(ctx context.Context, by Caller, name string, put api.TokenPut, when Precondition) (t api.Token, err error) {
	err = s.Write(ctx, by, "write", "tokens/"+name, func(tx *metadb.Tx) error {
		if err := checkTokenName(name); err != nil {
			return err
		}
		if put.Status == "" {
			put.Status = api.Enabled
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
		if err := setToken(tx, &row, &put.ScopeMap, &put.Status); err != nil {
			return err
		}
		values, err := s.SetPasswords(&row, put.Passwords)
		if err != nil {
			return err
		}
		if t, err = putToken(tx, row); err == nil {
			t.Credentials = credentialsOf(row, values)
		}
		return err
	})
	if err != nil {
		return api.Token{}, err
	}
	return t, nil
}

// CheckNewToken returns an error when there may not be a token of that name.
func (s *Service) CheckNewToken(tx *metadb.Tx, name string) error {
	operators, err := tx.Operators()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(operators, func(o metadb.Operator) bool { return strings.EqualFold(o.Name, name) }) {
		return Conflict("'%s' is the name of an operator, so no token can have it", name)
	}
	n, err := tx.CountTokens()
	if err == nil && n >= maxTokens {
		err = Conflict("there are %d tokens already, which is the most", n)
	}
	return err
}

// setToken sets what is not nil.
func setToken(tx *metadb.Tx, row *metadb.Token, scopeMap, status *string) error {
	if scopeMap != nil {
		row.ScopeMap = strings.TrimPrefix(*scopeMap, api.ScopeMapID(""))
		if _, err := tx.ScopeMap(row.ScopeMap); err != nil {
			return MapNotFound(err, "scope map", row.ScopeMap)
		}
	}
	if status != nil {
		row.Status = strings.ToLower(*status)
		if row.Status != api.Enabled && row.Status != api.Disabled {
			return Invalid("'%.20s' is no status of a token: want enabled or disabled", *status)
		}
	}
	return nil
}

// putToken writes a token and returns it as it is then.
func putToken(tx *metadb.Tx, row metadb.Token) (api.Token, error) {
	if err := tx.PutToken(row); err != nil {
		return api.Token{}, err
	}
	row, err := tx.Token(row.Name)
	return tokenOf(row), err
}

// UpdateToken changes a token's scope map or status.
func (s *Service) UpdateToken(ctx context.Context, by Caller, name string, patch api.TokenPatch, when Precondition) (t api.Token, err error) {
	err = s.Write(ctx, by, "update", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err := when.CheckChange(row.Version, err, "token", name); err != nil {
			return err
		}
		if err := setToken(tx, &row, patch.ScopeMap, patch.Status); err != nil {
			return err
		}
		t, err = putToken(tx, row)
		return err
	})
	return t, err
}

// DeleteToken removes a token, and takes it from the client tokens of every
// connected registry. A sync token stays for as long as its connected
// registry.
func (s *Service) DeleteToken(ctx context.Context, by Caller, name string, when Precondition) error {
	return s.Write(ctx, by, "delete", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err := when.CheckChange(row.Version, err, "token", name); err != nil {
			return err
		}
		return s.DropToken(tx, name)
	})
}

func (s *Service) DropToken(tx *metadb.Tx, name string) error {
	state := s.State()
	for _, user := range state.under(state.users, name) {
		row, err := tx.ConnectedRegistry(user)
		if errors.Is(err, metadb.ErrNotFound) {
			continue // it is deleted in the same transaction
		}
		if err != nil {
			return err
		}
		if row.SyncToken == name {
			return Conflict("the token '%s' is the sync token of the connected registry '%s'", name, row.Name).
				WithHint("delete the connected registry first: ferry connected-registry delete -n %s --cleanup", row.Name)
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

// SetPasswords makes passwords, in place of what is in their slots, and
// returns their values by slot.
func (s *Service) SetPasswords(row *metadb.Token, passwords []api.PasswordPut) (map[string]string, error) {
	values := map[string]string{}
	for _, p := range passwords {
		if p.Name != api.Password1 && p.Name != api.Password2 {
			return nil, Invalid("'%.20s' is no password of a token: want password1 or password2", p.Name)
		}
		if _, twice := values[p.Name]; twice {
			return nil, Invalid("%s is there twice", p.Name)
		}
		made := metadb.Password{Name: p.Name, CreatedAt: s.now().UTC().Truncate(time.Millisecond)}
		if p.Expiry != nil {
			if !p.Expiry.After(s.now()) {
				return nil, Invalid("the expiry of %s, %s, is over", p.Name, p.Expiry.UTC().Format(time.RFC3339))
			}
			made.ExpiresAt = p.Expiry.UTC()
		}
		value, err := auth.GeneratePassword(s.random)
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
