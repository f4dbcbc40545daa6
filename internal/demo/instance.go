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

// An instance is a registry that runs, with what is needed to use it.
type instance struct {
	cfg      config.Config
	url      string
	password string // of its user admin
	cancel   context.CancelFunc
	done     chan error // of [server.Run]
}

// instance returns a registry that keeps its data in a directory called name.
func (d *demo) instance(name string, port int) *instance {
	i := &instance{cfg: config.Default()}
	i.cfg.DataDir, i.cfg.Listen = d.path(name), fmt.Sprintf("127.0.0.1:%d", port)
	return i
}

// start runs a registry until stop; its log is beside its data. One that
// starts again is reached where it was before.
func (i *instance) start(ctx context.Context) error {
	log, err := os.OpenFile(i.cfg.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	ctx, i.cancel = context.WithCancel(ctx)
	ready := make(chan server.Ready, 1)
	i.done = make(chan error, 1)
	go func() {
		err := server.Run(ctx, i.cfg, server.Options{
			Log:   telemetry.NewLogger(log, i.cfg.LogLevel, i.cfg.LogFormat),
			Ready: func(r server.Ready) { ready <- r },
		})
		i.done <- errors.Join(err, log.Close())
	}()
	select {
	case err := <-i.done:
		i.cancel()
		i.cancel = nil
		return err
	case r := <-ready:
		i.url, i.cfg.Listen = r.URL, r.Addr.String()
		text, err := os.ReadFile(r.AdminPasswordFile)
		i.password = strings.TrimSpace(string(text))
		return err
	}
}

// stop stops the registry and waits for its end; one that does not run is none.
func (i *instance) stop() error {
	if i.cancel == nil {
		return nil
	}
	i.cancel()
	i.cancel = nil
	return <-i.done // the server itself limits how long its requests may take to end
}

// client returns a client of the registry.
func (i *instance) client(user, password string) (*remote.Registry, error) {
	return remote.New(i.url, remote.Options{Username: user, Password: password})
}
