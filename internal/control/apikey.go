package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// Limits on API keys.
const (
	maxAPIKeys  = 100 // of one operator
	maxKeyYears = 2   // until a key expires
)

func (s *Service) apiKeyOf(row metadb.APIKey) api.APIKey {
	return api.APIKey{
		ID: api.OperatorID(row.Operator) + "/api-keys/" + row.Name, Name: row.Name, Operator: row.Operator,
		Rights:       api.Rights{Role: row.Role, Reach: reachOf(row.Limits)},
		CreationDate: row.CreatedAt, Expiry: row.ExpiresAt, LastUseTime: api.Time(s.keyUse.of(row.Hash, row.UsedAt)),
	}
}

// APIKeys returns the API keys of an operator, by name.
func (s *Service) APIKeys(ctx context.Context, operator string) ([]api.APIKey, error) {
	return readAll(ctx, s, func(tx *metadb.Tx) ([]metadb.APIKey, error) {
		if _, err := tx.Operator(operator); err != nil {
			return nil, MapNotFound(err, "operator", operator)
		}
		return tx.APIKeysOf(operator)
	}, s.apiKeyOf)
}

// CreateAPIKey creates an API key of an operator. Only this result contains the key.
func (s *Service) CreateAPIKey(
	ctx context.Context, by Caller, operator, name string, put api.APIKeyPut,
) (k api.APIKey, err error) {
	value, err := auth.GenerateAPIKey(rand.Reader)
	if err != nil {
		return api.APIKey{}, err
	}
	object := KindOperator + "/" + operator + "/api-keys/" + name
	err = s.WriteHere(ctx, by.ownAt(operator), "create", object, func(tx *metadb.Tx) error {
		o, err := tx.Operator(operator)
		if err != nil {
			return MapNotFound(err, "operator", operator)
		}
		row := metadb.APIKey{
			Operator: operator, Name: name, Hash: auth.HashPassword(value), Role: cmp.Or(put.Role, o.Role),
			Limits:    metadb.OperatorLimits{Repositories: put.Repositories, Labels: put.Labels},
			CreatedAt: s.now().UTC().Truncate(time.Millisecond), ExpiresAt: put.Expiry.UTC().Truncate(time.Millisecond),
		}
		if err := s.checkNewKey(tx, newOperator(o, nil), row); err != nil {
			return err
		}
		k = s.apiKeyOf(row)
		return tx.AddAPIKey(row)
	})
	k.Value = &value
	if err != nil {
		k = api.APIKey{}
	}
	return k, err
}

// checkNewKey returns an error unless an operator may have a new API key, which must not have more
// rights than the operator.
func (s *Service) checkNewKey(tx *metadb.Tx, o *Operator, row metadb.APIKey) error {
	if err := checkName("an API key", row.Name); err != nil {
		return err
	}
	if err := checkRights(row.Role, row.Limits.Repositories, row.Limits.Labels); err != nil {
		return err
	}
	if row.Role == roleAdmin && o.Role != roleAdmin {
		return Invalid("an API key of the operator %s cannot have the role admin, because it is a reader", o.Name)
	}
	if l := limitsOf(row.Limits); l.Any() && !o.Limits.CoversAll(l) {
		return Invalid("the limits of the API key are wider than those of the operator %s", o.Name)
	}
	now := s.now()
	if !row.ExpiresAt.After(now) || row.ExpiresAt.After(now.AddDate(maxKeyYears, 0, 1)) {
		return Invalid("the expiry of an API key must be within %d years from now", maxKeyYears)
	}
	all, err := tx.APIKeysOf(o.Name)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(all, func(k metadb.APIKey) bool { return k.Name == row.Name }) {
		return Conflict("the operator %s has an API key '%s' already", o.Name, row.Name).
			WithHint("take another name, or delete it first: ferry operator api-key delete --operator %s -n %s", o.Name,
				row.Name)
	}
	if len(all) >= maxAPIKeys {
		return Conflict("the operator %s has %d API keys already, which is the most", o.Name, len(all)).
			WithHint("delete one that is not needed: ferry operator api-key list --operator %s", o.Name)
	}
	return nil
}

// DeleteAPIKey deletes an API key of an operator, which ends its logins at once.
func (s *Service) DeleteAPIKey(ctx context.Context, by Caller, operator, name string) error {
	object := KindOperator + "/" + operator + "/api-keys/" + name
	return s.WriteHere(ctx, by.ownAt(operator), "delete", object, func(tx *metadb.Tx) error {
		err := tx.DeleteAPIKey(operator, name)
		if errors.Is(err, metadb.ErrNotFound) {
			return Refuse(api.CodeNotFound, "the API key '%.100s' could not be found", name).
				WithHint("see ferry operator api-key list --operator %.100s", operator)
		}
		return err
	})
}

// SaveKeyUse stores when API keys were last used.
func (s *Service) SaveKeyUse(ctx context.Context) error {
	used := s.keyUse.take()
	if len(used) == 0 {
		return nil
	}
	err := s.db.Update(ctx, func(tx *metadb.Tx) error {
		for hash, at := range used {
			if err := tx.SetAPIKeyUsed(hash, at); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		for hash, at := range used { // the next call stores them
			s.keyUse.note(hash, at)
		}
	}
	return err
}
