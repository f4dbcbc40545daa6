package control

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"ferry/internal/auth"
	"ferry/internal/metadb"
)

// The settings that an instance keeps.
const (
	settingInstance = "instance-id"
	settingKey      = "signing-key"
	settingRole     = "role" // "root", or "connected-registry NAME"
)

const roleRoot = "root"

// prepare reads what the instance must remember of itself, and makes what is
// not there yet.
func (s *Service) prepare(ctx context.Context) error {
	role := roleRoot
	if s.self != "" {
		role = "connected-registry " + s.self
	}
	return s.db.Update(ctx, func(tx *metadb.Tx) error {
		had, err := tx.Setting(settingRole)
		if err != nil {
			return err
		}
		if had != "" && !strings.EqualFold(had, role) {
			return fmt.Errorf("the data belongs to the %s, and not to the %s: give it a data directory of its own", say(had), say(role))
		}
		if s.instance, err = ensure(tx, settingInstance, uuid.NewString); err != nil {
			return err
		}
		key, err := ensure(tx, settingKey, auth.NewSigningKey)
		if err != nil {
			return err
		}
		if s.signer, err = auth.NewSigner(key, s.now); err != nil {
			return err
		}
		if had == "" {
			if err := tx.SetSetting(settingRole, role); err != nil {
				return err
			}
		}
		if s.self == "" {
			return s.putSystemScopeMaps(tx)
		}
		return nil
	})
}

func say(role string) string {
	if role == roleRoot {
		return "root registry"
	}
	return strings.Replace(role, "connected-registry", "connected registry", 1)
}

// ensure returns a setting, which it makes where there is none.
func ensure(tx *metadb.Tx, name string, make func() string) (string, error) {
	value, err := tx.Setting(name)
	if err != nil || value != "" {
		return value, err
	}
	value = make()
	return value, tx.SetSetting(name, value)
}
