package control

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// maxTokens is the reference's limit.
const maxTokens = 20_000

// A token's status.
const (
	enabled  = "enabled"
	disabled = "disabled"
)

// slots are a token's password slots. They are only read.
var slots = []string{"password1", "password2"}

func tokenID(name string) string { return "/tokens/" + name }

func tokenOf(row metadb.Token) Token {
	t := Token{
		ID: tokenID(row.Name), Name: row.Name, Status: row.Status, Credentials: credentialsOf(row, nil),
		CreationDate: row.CreatedAt, ProvisioningState: succeeded, version: row.Version,
	}
	if row.ScopeMap != "" {
		t.ScopeMapID = scopeMapID(row.ScopeMap)
	}
	return t
}

// credentialsOf returns a token's slots, with the values of those that were
// made just now.
func credentialsOf(row metadb.Token, values map[string]string) TokenCredentials {
	c := TokenCredentials{Username: row.Name, Passwords: []TokenPassword{}}
	for _, p := range row.Passwords {
		password := TokenPassword{Name: p.Name, CreationTime: p.CreatedAt}
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

// A TokenPut is a token as it is to be.
type TokenPut struct {
	ScopeMap  string        `json:"scopeMap" minLength:"1" maxLength:"100"`
	Status    string        `json:"status,omitempty" maxLength:"16" doc:"enabled, which is the default, or disabled."`
	Passwords []PasswordPut `json:"passwords,omitempty" maxItems:"2" doc:"The passwords to make. A slot that is not named is empty then."`
}

// A PasswordPut is a password to make.
type PasswordPut struct {
	Name   string     `json:"name" enum:"password1,password2"`
	Expiry *time.Time `json:"expiry,omitempty" doc:"Never, where it is not given."`
}

// A TokenPatch is what is to change of a token.
type TokenPatch struct {
	ScopeMap *string `json:"scopeMap,omitempty" maxLength:"100"`
	Status   *string `json:"status,omitempty" maxLength:"16"`
}

// Tokens returns every token, by name.
func (s *Service) Tokens(ctx context.Context) ([]Token, error) {
	all := []Token{}
	err := s.db.View(ctx, func(tx *metadb.Tx) error {
		rows, err := tx.Tokens()
		for _, row := range rows {
			all = append(all, tokenOf(row))
		}
		return err
	})
	return all, err
}

// Token returns the token name.
func (s *Service) Token(ctx context.Context, name string) (t Token, err error) {
	err = s.db.View(ctx, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		t = tokenOf(row)
		return found(err, "token", name)
	})
	return t, err
}

// PutToken creates a token, or replaces it, passwords and all. The result
// alone has the values of the new passwords.
func (s *Service) PutToken(ctx context.Context, by Caller, name string, put TokenPut, when Precondition) (t Token, err error) {
	err = s.write(ctx, by, "write", "tokens/"+name, func(tx *metadb.Tx) error {
		if err := checkTokenName(name); err != nil {
			return err
		}
		if put.Status == "" {
			put.Status = enabled
		}
		old, err := tx.Token(name)
		exists := err == nil
		if err != nil && !errors.Is(err, metadb.ErrNotFound) {
			return err
		}
		if err := when.check(exists, old.Version, "token", name); err != nil {
			return err
		}
		if !exists {
			if err := s.checkNewToken(tx, name); err != nil {
				return err
			}
		}
		row := metadb.Token{Name: name, CreatedAt: s.now()}
		if err := setToken(tx, &row, &put.ScopeMap, &put.Status); err != nil {
			return err
		}
		values, err := s.setPasswords(&row, put.Passwords)
		if err != nil {
			return err
		}
		if t, err = putToken(tx, row); err == nil {
			t.Credentials = credentialsOf(row, values)
		}
		return err
	})
	if err != nil {
		return Token{}, err
	}
	return t, nil
}

// checkNewToken returns an error when there may not be a token of that name.
func (s *Service) checkNewToken(tx *metadb.Tx, name string) error {
	operators, err := tx.Operators()
	if err != nil {
		return err
	}
	if slices.ContainsFunc(operators, func(o metadb.Operator) bool { return strings.EqualFold(o.Name, name) }) {
		return conflict("'%s' is the name of an operator, so no token can have it", name)
	}
	n, err := tx.CountTokens()
	if err == nil && n >= maxTokens {
		err = conflict("there are %d tokens already, which is the most", n)
	}
	return err
}

// setToken sets what is not nil.
func setToken(tx *metadb.Tx, row *metadb.Token, scopeMap, status *string) error {
	if scopeMap != nil {
		row.ScopeMap = strings.TrimPrefix(*scopeMap, scopeMapID(""))
		if _, err := tx.ScopeMap(row.ScopeMap); err != nil {
			return found(err, "scope map", row.ScopeMap)
		}
	}
	if status != nil {
		row.Status = strings.ToLower(*status)
		if row.Status != enabled && row.Status != disabled {
			return invalid("'%.20s' is no status of a token: want enabled or disabled", *status)
		}
	}
	return nil
}

// putToken writes a token and returns it as it is then.
func putToken(tx *metadb.Tx, row metadb.Token) (Token, error) {
	if err := tx.PutToken(row); err != nil {
		return Token{}, err
	}
	row, err := tx.Token(row.Name)
	return tokenOf(row), err
}

// UpdateToken changes a token's scope map or status.
func (s *Service) UpdateToken(ctx context.Context, by Caller, name string, patch TokenPatch, when Precondition) (t Token, err error) {
	err = s.write(ctx, by, "update", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return found(err, "token", name)
		}
		if err := when.check(true, row.Version, "token", name); err != nil {
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
	return s.write(ctx, by, "delete", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return found(err, "token", name)
		}
		if err := when.check(true, row.Version, "token", name); err != nil {
			return err
		}
		return s.dropToken(tx, name)
	})
}

func (s *Service) dropToken(tx *metadb.Tx, name string) error {
	rows, err := tx.ConnectedRegistries()
	if err != nil {
		return err
	}
	if r, ok := syncedBy(rows, name); ok {
		return conflict("the token '%s' is the sync token of the connected registry '%s'", name, r.Name).
			hint("delete the connected registry first: ferry connected-registry delete -n %s --cleanup", r.Name)
	}
	for _, row := range rows {
		spec, err := specOf(row)
		if err != nil {
			return err
		}
		if !slices.Contains(spec.ClientTokens, name) {
			continue
		}
		spec.ClientTokens = slices.DeleteFunc(spec.ClientTokens, func(t string) bool { return t == name })
		if err := putSpec(tx, row, spec); err != nil {
			return err
		}
	}
	return tx.DeleteToken(name)
}

// setPasswords makes passwords, in place of what is in their slots, and
// returns their values by slot.
func (s *Service) setPasswords(row *metadb.Token, passwords []PasswordPut) (map[string]string, error) {
	values := map[string]string{}
	for _, p := range passwords {
		if !slices.Contains(slots, p.Name) {
			return nil, invalid("'%.20s' is no password of a token: want password1 or password2", p.Name)
		}
		if _, twice := values[p.Name]; twice {
			return nil, invalid("%s is there twice", p.Name)
		}
		made := metadb.Password{Name: p.Name, CreatedAt: s.now().UTC().Truncate(time.Millisecond)}
		if p.Expiry != nil {
			if !p.Expiry.After(s.now()) {
				return nil, invalid("the expiry of %s, %s, is over", p.Name, p.Expiry.UTC().Format(time.RFC3339))
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
