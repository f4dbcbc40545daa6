package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ferry/internal/api"
	"ferry/internal/atomicfile"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// The first operator.
const (
	firstOperator = "admin"
	// PasswordFile is the name of the file, in the data directory, that keeps
	// the first operator's password.
	PasswordFile = "initial-admin-password"
)

// EnsureAdmin creates the operator "admin" if there is no operator yet. It returns the new
// password, and stores it in the file [PasswordFile] of dir, which only its owner may read. A
// file that is there is kept as [PasswordFile].old: it belongs to another database of this
// directory, which may be restored. The password is "" if there was an operator already.
func (s *Service) EnsureAdmin(ctx context.Context, dir string) (password string, err error) {
	operators, err := metadb.Read(ctx, s.db, (*metadb.Tx).Operators)
	if err != nil || len(operators) > 0 {
		return "", err
	}
	if password, err = auth.GeneratePassword(rand.Reader); err != nil {
		return "", fmt.Errorf("generate first password: %w", err)
	}
	// The file comes first: if the process stops in between, the next start generates another
	// password. The password of an existing operator is always in the file.
	path := filepath.Join(dir, PasswordFile)
	if err := os.Rename(path, path+".old"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("keep password of the database before: %w", err)
	}
	if err := keepPassword(dir, password); err != nil {
		return "", err
	}
	row := metadb.Operator{Name: firstOperator, Role: roleAdmin, PasswordHash: auth.HashOperatorPassword(password),
		CreatedAt: s.now()}
	err = s.Change(ctx, func(tx *metadb.Tx) error {
		if operators, err := tx.Operators(); err != nil {
			return err
		} else if len(operators) > 0 {
			return errOtherProcess
		}
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		return s.Audit(tx, Caller{Name: "first start"}, "create", "operators/"+firstOperator)
	})
	if errors.Is(err, errOtherProcess) {
		return "", os.Remove(path)
	}
	if err != nil {
		return "", err
	}
	return password, nil
}

// errOtherProcess says that another process that starts at the same time has created the operator.
var errOtherProcess = errors.New("another process has created the first operator")

// keepPassword stores the password of the first operator in dir.
func keepPassword(dir, password string) error {
	if err := atomicfile.Write(filepath.Join(dir, PasswordFile), []byte(password+"\n")); err != nil {
		return fmt.Errorf("store first password: %w", err)
	}
	return nil
}

// atMachine is the caller of changes by the owner of the data directory.
const atMachine = "(owner of the data directory)"

// ResetAtMachine generates a new password of an operator for the owner of the data directory dir,
// and returns it. The former one ends at once. That of the first operator is also stored in
// [PasswordFile].
func (s *Service) ResetAtMachine(ctx context.Context, dir, operator string) (password string, err error) {
	err = s.Change(ctx, func(tx *metadb.Tx) error {
		password, err = resetPassword(tx, operator, s.now())
		return err
	})
	if err == nil && operator == firstOperator {
		err = keepPassword(dir, password)
	}
	return password, err
}

// ResetStopped is like [Service.ResetAtMachine] for the database of an instance that does not run.
func ResetStopped(ctx context.Context, db *metadb.DB, dir, operator string) (password string, err error) {
	err = db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		if password, err = resetPassword(tx, operator, time.Now()); err != nil {
			return err
		}
		_, err := tx.AdvanceControl() // instances on other machines may use the database
		return err
	})
	if err == nil && operator == firstOperator {
		err = keepPassword(dir, password)
	}
	return password, err
}

// resetPassword generates a new password of an operator, with an audit entry.
func resetPassword(tx *metadb.Tx, operator string, now time.Time) (password string, err error) {
	row, err := tx.Operator(operator)
	if errors.Is(err, metadb.ErrNotFound) {
		all, err := tx.Operators()
		var names []string
		for _, o := range all {
			names = append(names, o.Name)
		}
		return "", errors.Join(err, Refuse(api.CodeNotFound, "the operator '%.100s' could not be found", operator).
			WithHint("the operators are: %s", cmp.Or(strings.Join(names, ", "), "none, before the first start")))
	}
	if err != nil {
		return "", err
	}
	if row.PasswordHash, password, err = newPassword(""); err != nil {
		return "", err
	}
	if err := tx.PutOperator(row); err != nil {
		return "", err
	}
	return password, tx.AddAudit(metadb.AuditEntry{
		At: now, Actor: atMachine, Action: "reset-password", Object: KindOperator + "/" + operator,
	}, keptAudit)
}
