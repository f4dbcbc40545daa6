package server

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	"ferry/internal/config"
	"ferry/internal/control"
	"ferry/internal/metadb"
)

// ResetPassword generates a new password of an operator of an instance that does not run, and
// returns it; see [control.ResetStopped]. The data directory is locked meanwhile. Only its owner may
// do that: files of another user in it would keep the instance from starting.
func ResetPassword(ctx context.Context, cfg config.Config, operator string, log *slog.Logger) (string, error) {
	if err := checkOwner(cfg.DataDir, "operator reset-password"); err != nil {
		return "", err
	}
	dir, err := openDataDir(cfg.DataDir, false, log)
	if err != nil {
		return "", err
	}
	defer dir.unlock()
	dir.withoutBlobs = true
	cfg.DatabaseWait = 0 // a person is waiting
	db, err := openDatabase(ctx, cfg, dir, ownershipOf(cfg), log)
	if err != nil {
		return "", firstCause(err)
	}
	if cfg.ClusterSecretFile != "" {
		db.Share() // other processes may run
	}
	password, err := control.ResetStopped(ctx, db, cfg.DataDir, operator)
	if closed := db.Close(); err == nil {
		err = closed
	}
	return password, err
}

// checkOwner returns an error unless a data directory exists, and this user owns it. The command is
// named in the hint.
func checkOwner(dataDir, command string) error {
	info, err := os.Stat(dataDir)
	if err != nil {
		return fmt.Errorf("open data directory: %w", err)
	}
	if s, ok := info.Sys().(*syscall.Stat_t); ok && int(s.Uid) != os.Geteuid() {
		return withHint(fmt.Errorf("the data directory %s belongs to another user", dataDir),
			fmt.Sprintf("run the command as its owner: sudo -u '#%d' ferry %s ...", s.Uid, command))
	}
	return nil
}

// ownershipOf returns which other processes may use the database of an instance.
func ownershipOf(cfg config.Config) metadb.Ownership {
	if cfg.ClusterSecretFile != "" {
		return metadb.Together
	}
	return metadb.Alone
}

// openDatabase opens the database of a data directory.
func openDatabase(
	ctx context.Context, cfg config.Config, dir *dataDir, o metadb.Ownership, log *slog.Logger,
) (*metadb.DB, error) {
	options := databaseOptions(cfg, log)
	options.Accept, options.Ownership = dir.match, o
	return metadb.OpenWith(ctx, options)
}

func databaseOptions(cfg config.Config, log *slog.Logger) metadb.Options {
	return metadb.Options{
		URL: databaseOf(cfg), Log: log, Readers: cfg.DatabaseReaders, Writers: cfg.DatabaseWriters,
		Timeout: cfg.DatabaseTimeout, Wait: cfg.DatabaseWait,
	}
}

// databaseOf returns the address of the database.
func databaseOf(cfg config.Config) string {
	if cfg.Database != "" {
		return cfg.Database
	}
	return "sqlite:" + filepath.Join(cfg.DataDir, databaseFile)
}
