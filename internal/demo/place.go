package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ferry/internal/config"
	"ferry/internal/remote"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

// passwordFile is the name, in a registry's directory, of what holds the
// password of its user admin.
const passwordFile = "initial-admin-password"

// stopTimeout is how long a registry may take to stop: it lets requests end.
const stopTimeout = 30 * time.Second

// A place is a registry that runs, with what is needed to use it.
type place struct {
	name     string
	cfg      config.Config
	url      string
	password string // of its user admin
	stop     context.CancelFunc
	done     chan error // of [server.Run]
}

// start runs a registry until halt; its log is beside its data. One that
// starts again is reached where it was before.
func (p *place) start(ctx context.Context) error {
	log, err := os.OpenFile(p.cfg.DataDir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	ctx, p.stop = context.WithCancel(ctx)
	ready := make(chan server.Ready, 1)
	p.done = make(chan error, 1)
	go func() {
		err := server.Run(ctx, p.cfg, server.Options{
			Log:   telemetry.NewLogger(log, p.cfg.LogLevel, p.cfg.LogFormat),
			Ready: func(r server.Ready) { ready <- r },
		})
		p.done <- errors.Join(err, log.Close())
	}()
	select {
	case err := <-p.done:
		p.stop()
		p.stop = nil
		return err
	case r := <-ready:
		p.url, p.cfg.Listen = r.URL, r.Addr.String()
		text, err := os.ReadFile(r.AdminPasswordFile)
		p.password = strings.TrimSpace(string(text))
		return err
	}
}

// halt stops the registry and waits for its end; one that does not run is none.
func (p *place) halt() error {
	if p.stop == nil {
		return nil
	}
	p.stop()
	p.stop = nil
	select {
	case err := <-p.done:
		return err
	case <-time.After(stopTimeout):
		return fmt.Errorf("%s does not stop", p.name)
	}
}

// client returns a client of the registry.
func (p *place) client(user, password string) (*remote.Registry, error) {
	return remote.New(p.url, remote.Options{Username: user, Password: password})
}

// newPlace returns a registry that keeps its data in dir/name.
func newPlace(dir, name string, port int) *place {
	cfg := config.Default()
	cfg.DataDir, cfg.Listen = filepath.Join(dir, name), fmt.Sprintf("127.0.0.1:%d", port)
	return &place{name: name, cfg: cfg}
}
