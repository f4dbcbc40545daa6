package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"ferry/internal/config"
	"ferry/internal/management"
)

// listenLocal opens the socket in the data directory, through which the directory's owner
// may read the instance's status without a login. An existing socket is stale, because the
// directory is locked.
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

// serveLocal serves the local socket until ctx ends.
func (in *instance) serveLocal(ctx context.Context, l net.Listener) error {
	srv := newHTTPServer(management.NewLocalHandler(in.management()), in.log)
	return serveThenDrain(ctx, srv, l, slog.New(slog.DiscardHandler), func() time.Duration { return 0 })
}
