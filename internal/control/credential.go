package control

import (
	"context"
	"net/http"
	"slices"
	"time"

	"ferry/internal/metadb"
)

// A CredentialsPost says which passwords to make.
type CredentialsPost struct {
	Passwords []string   `json:"passwords" nullable:"false" minItems:"1" maxItems:"2" doc:"password1, password2, or both."`
	Expiry    *time.Time `json:"expiry,omitempty" doc:"Of the new passwords; never, where it is not given."`
}

// GenerateCredentials makes passwords of a token, in place of what is in
// their slots. The result alone has their values.
func (s *Service) GenerateCredentials(ctx context.Context, by Caller, name string, post CredentialsPost) (c TokenCredentials, err error) {
	err = s.write(ctx, by, "generate-credentials", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return found(err, "token", name)
		}
		var put []PasswordPut
		for _, slot := range post.Passwords {
			put = append(put, PasswordPut{Name: slot, Expiry: post.Expiry})
		}
		values, err := s.setPasswords(&row, put)
		if err != nil {
			return err
		}
		c = credentialsOf(row, values)
		return tx.PutToken(row)
	})
	if err != nil {
		return TokenCredentials{}, err
	}
	return c, nil
}

// DeleteCredential empties a password slot of a token.
func (s *Service) DeleteCredential(ctx context.Context, by Caller, name, slot string) error {
	return s.write(ctx, by, "delete-credential", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return found(err, "token", name)
		}
		i := slices.IndexFunc(row.Passwords, func(p metadb.Password) bool { return p.Name == slot })
		if i < 0 {
			return problem(http.StatusNotFound, codeNotFound, "the token '%s' has no %.20s", name, slot)
		}
		row.Passwords = slices.Delete(row.Passwords, i, i+1)
		return tx.PutToken(row)
	})
}
