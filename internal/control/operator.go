package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"slices"
	"strings"
	"unicode/utf8"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// Limits on operators.
const (
	maxOperators     = 1000
	minPassword      = 12   // characters
	maxPasswordBytes = 1024 // as a login accepts
)

// KindOperator is the kind of operators in the audit log and in paths.
const KindOperator = "operators"

func reachOf(l metadb.OperatorLimits) api.Reach {
	return api.Reach{Repositories: append([]string{}, l.Repositories...), Labels: append([]string{}, l.Labels...)}
}

func operatorOf(row metadb.Operator) api.Operator {
	return api.Operator{
		ID: api.OperatorID(row.Name), Name: row.Name, Rights: api.Rights{Role: row.Role, Reach: reachOf(row.Limits)},
		CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded, Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
}

// Operators returns every operator, by name.
func (s *Service) Operators(ctx context.Context) ([]api.Operator, error) {
	return readAll(ctx, s, (*metadb.Tx).Operators, operatorOf)
}

// Operator returns the operator name.
func (s *Service) Operator(ctx context.Context, name string) (api.Operator, error) {
	row, err := metadb.Read(ctx, s.db, func(tx *metadb.Tx) (metadb.Operator, error) { return tx.Operator(name) })
	return operatorOf(row), MapNotFound(err, "operator", name)
}

// PutOperator creates an operator, or replaces it together with its password. Its API keys stay.
// Only this result contains a generated password.
func (s *Service) PutOperator(
	ctx context.Context, by Caller, name string, put api.OperatorPut, when Precondition,
) (o api.Operator, err error) {
	hash, generated, err := newPassword(put.Password)
	if err != nil {
		return api.Operator{}, err
	}
	err = s.WriteHere(ctx, by, "write", KindOperator+"/"+name, func(tx *metadb.Tx) error {
		if err := checkName("an operator", name); err != nil {
			return err
		}
		old, err := tx.Operator(name)
		exists, err := when.CheckPut(old.Version, err, "operator", name)
		if err != nil {
			return err
		}
		if !exists {
			if err := s.checkNewOperator(name); err != nil {
				return err
			}
		}
		row := metadb.Operator{Name: name, PasswordHash: hash, CreatedAt: s.now()}
		o, err = putOperator(tx, row, put.Role, put.Repositories, put.Labels)
		return err
	})
	o.Password = api.Text(generated)
	return o, err
}

// checkNewOperator returns an error if an operator with this name may not be created: the login of a
// token would end, because the name would mean the operator.
func (s *Service) checkNewOperator(name string) error {
	state := s.State()
	if n := len(state.Operators()); n >= maxOperators {
		return Conflict("there are %d operators already, which is the most", n).
			WithHint("delete one that is not needed: ferry operator list, then ferry operator delete -n NAME")
	}
	for _, o := range state.Operators() {
		if strings.EqualFold(o.Name, name) {
			return Conflict("there is an operator '%s' already", o.Name).
				WithHint("take another name, or change that one: ferry operator update -n %s", o.Name)
		}
	}
	if t := state.Token(name); t != nil {
		return Conflict("'%s' is the name of a token, so no operator can have it", name).
			WithHint("take another name, or delete the token: ferry token delete -n %s", name)
	}
	return nil
}

// UpdateOperator changes the role or the limits of an operator, for its next request.
func (s *Service) UpdateOperator(
	ctx context.Context, by Caller, name string, patch api.OperatorPatch, when Precondition,
) (o api.Operator, err error) {
	err = s.WriteHere(ctx, by, "update", KindOperator+"/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Operator(name)
		if err := when.CheckChange(row.Version, err, "operator", name); err != nil {
			return err
		}
		set(&row.Role, patch.Role)
		if patch.Repositories != nil {
			row.Limits.Repositories = patch.Repositories
		}
		if patch.Labels != nil {
			row.Limits.Labels = patch.Labels
		}
		o, err = putOperator(tx, row, row.Role, row.Limits.Repositories, row.Limits.Labels)
		return err
	})
	return o, err
}

// SetOperatorPassword sets or generates the password of an operator, which ends its logins at once.
// Only this result contains a generated password. An operator may set its own.
func (s *Service) SetOperatorPassword(
	ctx context.Context, by Caller, name string, post api.PasswordPost,
) (o api.Operator, err error) {
	hash, generated, err := newPassword(post.Password)
	if err != nil {
		return api.Operator{}, err
	}
	err = s.WriteHere(ctx, by.ownAt(name), "reset-password", KindOperator+"/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Operator(name)
		if err != nil {
			return MapNotFound(err, "operator", name)
		}
		row.PasswordHash = hash
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		row, err = tx.Operator(name)
		o = operatorOf(row)
		return err
	})
	o.Password = api.Text(generated)
	return o, err
}

// ownAt returns the caller without limits, if it is the operator name: they do not keep it from its
// own password and API keys.
func (c Caller) ownAt(name string) Caller {
	if c.Name == name {
		c.Limits = auth.Limits{}
	}
	return c
}

// DeleteOperator deletes an operator with its API keys, which ends its logins at once.
func (s *Service) DeleteOperator(ctx context.Context, by Caller, name string, when Precondition) error {
	return s.WriteHere(ctx, by, "delete", KindOperator+"/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Operator(name)
		if err := when.CheckChange(row.Version, err, "operator", name); err != nil {
			return err
		}
		if err := tx.DeleteOperator(name); err != nil {
			return err
		}
		return checkAdmins(tx)
	})
}

// putOperator writes an operator with its rights, and returns the result.
func putOperator(
	tx *metadb.Tx, row metadb.Operator, role string, repositories, labels []string,
) (api.Operator, error) {
	if err := checkRights(role, repositories, labels); err != nil {
		return api.Operator{}, err
	}
	row.Role, row.Limits = role, metadb.OperatorLimits{Repositories: repositories, Labels: labels}
	if err := tx.PutOperator(row); err != nil {
		return api.Operator{}, err
	}
	if err := checkAdmins(tx); err != nil {
		return api.Operator{}, err
	}
	row, err := tx.Operator(row.Name)
	return operatorOf(row), err
}

func checkRights(role string, repositories, labels []string) error {
	if role != roleAdmin && role != roleReader {
		return Invalid("'%.20s' is not a role: want admin or reader", role)
	}
	if _, err := auth.ReadLimits(repositories, labels); err != nil {
		return Invalid("%v", err)
	}
	return nil
}

// checkAdmins returns an error unless an operator is left that may do everything.
func checkAdmins(tx *metadb.Tx) error {
	all, err := tx.Operators()
	if err != nil || slices.ContainsFunc(all, func(o metadb.Operator) bool {
		return o.Role == roleAdmin && len(o.Limits.Repositories)+len(o.Limits.Labels) == 0
	}) {
		return err
	}
	return Conflict("this is the last admin without limits").WithHint("create another one first: " +
		"ferry operator create -n NAME --role admin")
}

// newPassword returns the hash of a password, or of a new one if it is "".
func newPassword(given string) (hash, generated string, err error) {
	if given == "" {
		if generated, err = auth.GeneratePassword(rand.Reader); err != nil {
			return "", "", err
		}
	} else if err := checkPassword(given); err != nil {
		return "", "", err
	}
	return auth.HashOperatorPassword(cmp.Or(given, generated)), generated, nil
}

func checkPassword(text string) error {
	switch {
	case !utf8.ValidString(text):
		return Invalid("the password is not UTF-8")
	case utf8.RuneCountInString(text) < minPassword:
		return Invalid("the password is too short: want at least %d characters", minPassword)
	case len(text) > maxPasswordBytes:
		return Invalid("the password is too long: at most %d bytes are allowed", maxPasswordBytes)
	case auth.IsAPIKey(text):
		return Invalid("the password has the form of an API key")
	}
	return nil
}
