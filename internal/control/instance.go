package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/google/uuid"

	"ferry/internal/metadb"
)

// The settings that an instance keeps.
const (
	settingInstance = metadb.SettingInstance
	settingRole     = metadb.SettingRole
)

// ErrDamaged is what [New] returns, wrapped, for a database that was in use and lacks
// what an instance must remember of itself.
var ErrDamaged = errors.New("the database is damaged")

const roleRoot = "root"

// ErrNoConnectionString is that a connected registry was started like a root.
var ErrNoConnectionString = errors.New("it needs its connection string to start")

// prepare reads what the instance must remember of itself. It makes that in a database
// that is empty; in another, only if o says that it may.
func (s *Service) prepare(ctx context.Context, o Options) error {
	role := roleRoot
	if s.self != "" {
		role = "connected-registry " + s.self
	}
	return s.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		id, err := tx.Identity()
		if err != nil {
			return err
		}
		own := memory{tx, id.Used, o.Adopt, s.log}
		had, err := tx.Setting(settingRole)
		if err != nil {
			return err
		}
		if had != "" && had != roleRoot && role == roleRoot {
			return fmt.Errorf("the data belongs to the %s: %w", say(had), ErrNoConnectionString)
		}
		if had != "" && !strings.EqualFold(had, role) {
			return fmt.Errorf("the data belongs to the %s, and not to the %s: give it a data directory of its own",
				say(had), say(role))
		}
		if _, err := own.ensure(settingRole, func() string { return role }); err != nil {
			return err
		}
		s.instance, err = own.ensure(settingInstance, func() string { return cmp.Or(o.Instance, uuid.NewString()) })
		if err != nil {
			return err
		}
		if s.self == "" {
			return s.putSystemScopeMaps(tx)
		}
		return nil
	})
}

// A memory is what an instance remembers of itself in its database.
type memory struct {
	tx          *metadb.Tx
	used, adopt bool
	log         *slog.Logger
}

// ensure returns a setting, which it makes where there is none.
func (m memory) ensure(name string, make func() string) (string, error) {
	value, err := m.tx.Setting(name)
	if err != nil || value != "" {
		return value, err
	}
	if m.used && !m.adopt {
		return "", fmt.Errorf("it was in use, and has no %s: %w", name, ErrDamaged)
	}
	if m.used {
		m.log.Warn("the database lacked a setting, which is made anew", "setting", name)
	}
	value = make()
	return value, m.tx.SetSetting(name, value)
}

func say(role string) string {
	if role == roleRoot {
		return "root registry"
	}
	return strings.Replace(role, "connected-registry", "connected registry", 1)
}
