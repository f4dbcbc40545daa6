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

// The settings that an instance stores.
const (
	settingInstance = metadb.SettingInstance
	settingRole     = metadb.SettingRole
)

// ErrDamaged is wrapped by the error of [New] for a database that was in use and lacks a setting of
// its instance.
var ErrDamaged = errors.New("the database is damaged")

const roleRoot = "root"

// ErrNoConnectionString is the error for a connected registry that is started as a root.
var ErrNoConnectionString = errors.New("it needs its connection string to start")

// prepare reads the settings of the instance. It creates them in an empty database, and in another
// one only with Options.Adopt.
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
		own := settings{tx, id.Used, o.Adopt, s.log}
		had, err := tx.Setting(settingRole)
		if err != nil {
			return err
		}
		if had != "" && had != roleRoot && role == roleRoot {
			return fmt.Errorf("the data belongs to the %s: %w", roleText(had), ErrNoConnectionString)
		}
		if had != "" && !strings.EqualFold(had, role) {
			return fmt.Errorf("the data belongs to the %s, and not to the %s: give it a data directory of its own",
				roleText(had), roleText(role))
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

// settings reads and creates the settings of an instance.
type settings struct {
	tx          *metadb.Tx
	used, adopt bool
	log         *slog.Logger
}

// ensure returns a setting, and creates it if it is missing.
func (s settings) ensure(name string, make func() string) (string, error) {
	value, err := s.tx.Setting(name)
	if err != nil || value != "" {
		return value, err
	}
	if s.used && !s.adopt {
		return "", fmt.Errorf("it was in use, and has no %s: %w", name, ErrDamaged)
	}
	if s.used {
		s.log.Warn("the database lacked a setting, which is created again", "setting", name)
	}
	value = make()
	return value, s.tx.SetSetting(name, value)
}

func roleText(role string) string {
	if role == roleRoot {
		return "root registry"
	}
	return strings.Replace(role, "connected-registry", "connected registry", 1)
}
