// Package server is one running instance: it composes the registry, the
// gateway, the management API and, where there is a connection string, the
// agent that follows the parent, and serves them on one listener until its
// context ends.
package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"

	"ferry/internal/config"
)

// Options are what an instance gets from the program around it.
type Options struct {
	// Log receives everything that the instance has to say; nil discards it.
	Log *slog.Logger
	// Notices receives the lines that are for the person who starts an
	// instance for the first time, the administrator's password among them;
	// nil discards them.
	Notices io.Writer
	// Ready is called once, when the instance serves; nil is allowed.
	Ready func(Ready)
}

// Ready says where an instance serves.
type Ready struct {
	Addr              net.Addr
	URL               string // of a client on this machine, as http://127.0.0.1:5000
	AdminPasswordFile string // the first administrator's password; the user is "admin"
}

// Run starts the instance that cfg describes and serves until ctx ends, then
// lets running requests finish for a while and returns nil. Every other
// return is an error, which [Hint] may have advice on.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	return errors.New("not written")
}
