package fleettest

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/argon2"

	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// HashPassword is [auth.HashOperatorPassword] at a thousandth of its cost. The hash names its own
// cost, so that the program checks it like any other.
func HashPassword(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt) // it never fails
	key := argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)
	b64 := base64.RawStdEncoding
	return fmt.Sprintf("$argon2id$v=%d$m=8,t=1,p=1$%s$%s", argon2.Version, b64.EncodeToString(salt),
		b64.EncodeToString(key))
}

// PrepareRoot writes the data directory of a root whose first start was interrupted late: the
// database has its tables and the operator admin, whose hash is cheap. The next start continues from
// there. A directory with a database stays as it is.
func PrepareRoot(dir string) error {
	path := filepath.Join(dir, "ferry.db")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := dbtest.Prepare(path); err != nil {
		return err
	}
	ctx := context.Background()
	db, err := metadb.Open(ctx, "sqlite:"+path)
	if err != nil {
		return err
	}
	defer db.Close()
	password, row, err := admin(time.Now())
	if err != nil {
		return err
	}
	id := uuid.NewString()
	if err := os.WriteFile(filepath.Join(dir, "instance-id.new"), []byte(id+"\n"), 0o600); err != nil {
		return err
	}
	err = db.Update(ctx, func(tx *metadb.Tx) error {
		return errors.Join(tx.SetSetting(metadb.SettingInstance, id), tx.SetSetting(metadb.SettingRole, "root"),
			tx.PutOperator(row))
	})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, control.PasswordFile), []byte(password+"\n"), 0o600)
}

// ensureAdmin is [control.Service.EnsureAdmin] with a cheap hash and without a file.
func ensureAdmin(ctx context.Context, db *metadb.DB, s *control.Service, now time.Time) (password string, err error) {
	operators, err := metadb.Read(ctx, db, (*metadb.Tx).Operators)
	if err != nil || len(operators) > 0 {
		return "", err
	}
	password, row, err := admin(now)
	if err != nil {
		return "", err
	}
	return password, s.Change(ctx, func(tx *metadb.Tx) error {
		if err := tx.PutOperator(row); err != nil {
			return err
		}
		return s.Audit(tx, control.Caller{Name: "first start"}, "create", "operators/admin")
	})
}

// admin returns the operator admin with a new password.
func admin(now time.Time) (password string, row metadb.Operator, err error) {
	password, err = auth.GeneratePassword(rand.Reader)
	row = metadb.Operator{Name: "admin", Role: "admin", PasswordHash: HashPassword(password), CreatedAt: now}
	return password, row, err
}
