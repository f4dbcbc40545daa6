package control

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"ferry/internal/atomicfile"
	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// The roles of an operator.
const (
	roleAdmin  = "admin"  // may do everything within its limits
	roleReader = "reader" // may read within its limits
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
	if err := atomicfile.Write(path, []byte(password+"\n")); err != nil {
		return "", fmt.Errorf("store first password: %w", err)
	}
	row := metadb.Operator{Name: firstOperator, Role: roleAdmin, PasswordHash: auth.HashOperatorPassword(password),
		CreatedAt: s.now()}
	err = s.Change(ctx, func(tx *metadb.Tx) error {
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		return s.Audit(tx, Caller{Name: "first start"}, "create", "operators/"+firstOperator)
	})
	if err != nil {
		return "", err
	}
	return password, nil
}
