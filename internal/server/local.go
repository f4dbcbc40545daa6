package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"

	"ferry/internal/config"
	"ferry/internal/management"
)

// listenLocal opens the socket in the data directory at which the directory's
// owner may ask how the instance is, without a login. The directory is locked, so
// a socket that is there was left by a process that is no more.
func listenLocal(dataDir string) (net.Listener, error) {
	path := config.LocalSocket(dataDir)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("open local socket: %w", err)
	}
	return l, nil
}

// serveLocal answers at the local socket until ctx ends.
func (in *instance) serveLocal(ctx context.Context, l net.Listener) error {
	srv := newHTTPServer(management.NewLocalHandler(in.management()), in.log)
	return serveUntil(ctx, srv, l, slog.New(slog.DiscardHandler), func() {})
}
