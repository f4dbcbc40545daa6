package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"ferry/internal/config"
	"ferry/internal/remote"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

// An instance is a registry of the demo, with a client for its administrator.
type instance struct {
	cfg      config.Config
	url      string
	password string           // of the user admin
	admin    *remote.Registry // a client with that user
	stop     func() error     // stops the registry and waits for its end; may be called again
}

// instance returns a registry that keeps its data in a directory called name.
func (d *demo) instance(name string, port int) *instance {
	i := &instance{cfg: config.Default(), stop: func() error { return nil }}
	i.cfg.DataDir, i.cfg.Listen = d.path(name), fmt.Sprintf("127.0.0.1:%d", port)
	return i
}

// start runs the registry until stop. Its log is next to its data directory. After a
// restart, it has the same address.
func (i *instance) start(ctx context.Context) error {
	log, err := os.OpenFile(i.cfg.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan server.Ready, 1), make(chan error, 1)
	i.stop = func() error {
		cancel()
		return <-done // the server limits how long it drains
	}
	go func() {
		err := server.Run(ctx, i.cfg, server.Options{
			Log:   telemetry.NewLogger(log, i.cfg.LogLevel, i.cfg.LogFormat),
			Ready: func(r server.Ready) { ready <- r },
		})
		done <- errors.Join(err, log.Close())
		close(done) // later calls of stop return nil
	}()
	select {
	case err := <-done:
		cancel()
		return err
	case r := <-ready:
		i.url, i.cfg.Listen = r.URL, r.Addr.String()
		text, err := os.ReadFile(r.AdminPasswordFile)
		if err != nil {
			return err
		}
		i.password = strings.TrimSpace(string(text))
		i.admin, err = remote.New(i.url, remote.Options{Username: "admin", Password: i.password})
		return err
	}
}
