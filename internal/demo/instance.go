package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"

	"golang.org/x/time/rate"

	"ferry/internal/config"
	"ferry/internal/remote"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

// An instance is a registry that runs, with what is needed to use it.
type instance struct {
	cfg      config.Config
	url      string
	password string           // of its user admin
	admin    *remote.Registry // itself, as that user
	stop     func() error     // stops it and waits for its end; it may be called again
}

// instance returns a registry that keeps its data in a directory called name.
func (d *demo) instance(name string, port int) *instance {
	i := &instance{cfg: config.Default(), stop: func() error { return nil }}
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
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan server.Ready, 1), make(chan error, 1)
	i.stop = func() error {
		cancel()
		return <-done // the server itself limits how long its requests may take to end
	}
	go func() {
		err := server.Run(ctx, i.cfg, server.Options{
			Log:   telemetry.NewLogger(log, i.cfg.LogLevel, i.cfg.LogFormat),
			Ready: func(r server.Ready) { ready <- r },
		})
		done <- errors.Join(err, log.Close())
		close(done) // an error is returned once
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

// A link is the way from the ship to the root: connections to it lead to the
// root, and what the root sends comes back at a rate.
type link struct {
	net.Listener
	root     string // its address
	limit    *rate.Limiter
	received atomic.Int64 // bytes that came back
}

// linkBurst is how many bytes may pass at once: no fewer than io.Copy reads.
const linkBurst = 64 << 10

// newLink opens a link to root, a host and port, that lets perSecond bytes a
// second come back, or as many as come where that is 0.
func newLink(root string, perSecond int64) (*link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open link: %w", err)
	}
	l := &link{Listener: listener, root: root, limit: rate.NewLimiter(rate.Inf, linkBurst)}
	if perSecond > 0 {
		l.limit.SetLimit(rate.Limit(perSecond))
	}
	go func() {
		for {
			ship, err := listener.Accept()
			if err != nil {
				return
			}
			go l.join(ship)
		}
	}()
	return l, nil
}

// url is that of the root, as the ship sees it.
func (l *link) url() string { return "http://" + l.Addr().String() }

// join copies between the ship and the root until either ends the connection;
// a root that is switched off ends it at once.
func (l *link) join(ship net.Conn) {
	defer ship.Close()
	root, err := net.Dial("tcp", l.root)
	if err != nil {
		return
	}
	go func() {
		io.Copy(root, ship)
		root.Close()
	}()
	io.Copy(ship, io.TeeReader(root, l))
}

// Write counts what comes back, and takes as long as the link needs for it.
func (l *link) Write(p []byte) (int, error) {
	l.received.Add(int64(len(p)))
	return len(p), l.limit.WaitN(context.Background(), len(p))
}
