package control

import (
	"context"
	"slices"

	"ferry/internal/api"
	"ferry/internal/metadb"
)

// GenerateCredentials makes passwords of a token, in place of what is in
// their slots. The result alone has their values.
func (s *Service) GenerateCredentials(ctx context.Context, by Caller, name string, post api.CredentialsPost) (c api.TokenCredentials, err error) {
	err = s.Write(ctx, by, "generate-credentials", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return MapNotFound(err, "token", name)
		}
		var put []api.PasswordPut
		for _, slot := range post.Passwords {
			put = append(put, api.PasswordPut{Name: slot, Expiry: post.Expiry})
		}
		values, err := s.SetPasswords(&row, put)
		if err != nil {
			return err
		}
		c = credentialsOf(row, values)
		return tx.PutToken(row)
	})
	if err != nil {
		return api.TokenCredentials{}, err
	}
	return c, nil
}

// DeleteCredential empties a password slot of a token.
func (s *Service) DeleteCredential(ctx context.Context, by Caller, name, slot string) error {
	return s.Write(ctx, by, "delete-credential", "tokens/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Token(name)
		if err != nil {
			return MapNotFound(err, "token", name)
		}
		i := slices.IndexFunc(row.Passwords, func(p metadb.Password) bool { return p.Name == slot })
		if i < 0 {
			return Refuse(api.CodeNotFound, "the token '%s' has no %.20s", name, slot)
		}
		row.Passwords = slices.Delete(row.Passwords, i, i+1)
		return tx.PutToken(row)
	})
}
