package server

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"syscall"

	"ferry/internal/config"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/storage"
)

// hinted is an error with a hint for the person who started the instance.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint says how to solve the problem.
func (h hinted) Hint() string { return h.hint }

func withHint(err error, hint string) error {
	if err == nil || hint == "" {
		return err
	}
	return hinted{err, hint}
}

// advise adds a hint to an error of starting an instance.
func advise(cfg config.Config, err error) error {
	var already hinted
	if err == nil || errors.As(err, &already) {
		return err
	}
	hint := ""
	switch {
	case errors.Is(err, storage.ErrLocked):
		hint = "stop the other ferry, or give this one its own --data-dir"
	case errors.Is(err, control.ErrDamaged):
		hint = "restore the database; or let ferry serve --adopt create the missing settings"
	case errors.Is(err, control.ErrNoConnectionString):
		hint = "give it with --connection-string-file FILE; to get another: " + getSettings
	case errors.Is(err, metadb.ErrOtherSchema):
		hint = "run the ferry that created it, or begin with an empty data directory; nothing was changed"
	case errors.Is(err, metadb.ErrInUse):
		hint = "stop the other ferry, or give this one a --database of its own: processes whose blobs are in " +
			"different directories cannot share one"
	case errors.Is(err, metadb.ErrNewer):
		hint = "run the ferry that wrote it, or a newer one; nothing was changed"
	case errors.Is(err, syscall.EADDRINUSE):
		hint = "another program listens there; choose another port, such as --listen " + anotherPort(cfg.Listen)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		hint = "this machine has no such address; :PORT listens on all of its addresses"
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		hint = fmt.Sprintf("give --data-dir a directory that this user may write to, or change the owner of %s",
			cfg.DataDir)
	case errors.Is(err, syscall.ENOSPC), metadb.IsFull(err):
		hint = fmt.Sprintf("the disk of %s is full; make room, or give another --data-dir", cfg.DataDir)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EEXIST), errors.Is(err, fs.ErrNotExist):
		hint = "--data-dir wants a directory, or the path of one that can be made"
	case errors.As(err, new(*net.DNSError)):
		hint = "--listen wants an address of this machine; :PORT listens on all of its addresses"
	case strings.HasPrefix(err.Error(), "database URL is malformed"):
		hint = "want postgres://user:password@host/name; in a password, write characters other than letters and " +
			"digits as %XX"
	case strings.HasPrefix(cfg.Database, "sqlite:") && strings.HasPrefix(err.Error(), "open database"):
		path := strings.TrimPrefix(cfg.Database, "sqlite:")
		hint = fmt.Sprintf("check --database: %s must be a file, or one that can be made", path)
	case isPostgres(cfg) && strings.HasPrefix(err.Error(), "open database"):
		hint = "check --database, and that PostgreSQL runs and accepts this user"
	}
	return withHint(err, hint)
}

// getSettings is the command that makes a connection string.
const getSettings = "ferry connected-registry get-settings -n NAME --parent-protocol https " +
	"--generate-password 1 --query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file FILE"

// anotherPort returns addr with the next port. After the last port it returns 0, which is
// any free port. Validate has checked the form of addr.
func anotherPort(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	return net.JoinHostPort(host, fmt.Sprint(uint16(n+1)))
}

// firstCause shortens an error that lists several attempts, one a line, to the first.
func firstCause(err error) error {
	lines := strings.Split(err.Error(), "\n")
	if len(lines) == 1 {
		return err
	}
	return fmt.Errorf("%s %s", lines[0], strings.TrimSpace(lines[1]))
}
