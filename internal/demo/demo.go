// Package demo shows Ferry at work on one machine: it runs a root registry
// and a connected registry, lets an image and then its next version cross from
// the one to the other, and pulls them with the root switched off. What it
// does, it does with the program's own commands and the registries' own APIs,
// as a user would.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"ferry/internal/telemetry"
)

// Options are what a demo is told.
type Options struct {
	Dir      string   // "" is a temporary one, which is removed at the end
	Port     int      // of the root; the connected registry has the next. 0 is any two that are free
	Images   []string // oci:DIR:TAG; none are images packed from Program
	Once     bool     // end after the last step, instead of serving until ctx ends
	LinkRate int64    // bytes a second that the link lets through; 0 is no limit
	Program  string   // the executable
	Out      io.Writer
	Terminal bool // Out is one: draw bars
	Color    bool
	// Ferry runs one command of the program, without its name, with what it
	// reads from standard input, and returns what it wrote to standard output.
	Ferry func(ctx context.Context, configDir, stdin string, args []string) (stdout string, err error)
}

// The names that things have in the demo.
const (
	shoreName  = "ashore"
	shipName   = "aurora"
	wireName   = "ashore-by-link" // the root, as it is reached from the ship
	clientName = "deckhand"       // a token, for the machines on board
)

// tick is how often what is waited for is looked at.
const tick = 50 * time.Millisecond

// patience is how long the demo waits while nothing moves.
const patience = time.Minute

// errInterrupted is what a demo ends with whose context ended before its last step.
var errInterrupted = errors.New("interrupted")

// A demo is one run.
type demo struct {
	Options
	dir      directory
	screen   *screen
	images   []*cargo
	ashore   *place
	ship     *place
	link     *link
	password string // of the client token
}

// Run runs the demo. Its error, where there is something to do about it, has
// a method Hint. It leaves nothing behind but a directory that was named, or,
// for whoever looks into a failure, its own.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o, screen: &screen{out: o.Out, terminal: o.Terminal, color: o.Color}}
	if d.images, err = parseImages(o.Images); err != nil {
		return withHint(err, "make one with: skopeo copy docker://alpine:3 oci:alpine:3, then ferry demo --image oci:alpine:3")
	}
	if d.dir, err = newDirectory(o.Dir); err != nil {
		return err
	}
	d.ashore, d.ship = newPlace(d.dir.path, shoreName, o.Port), newPlace(d.dir.path, shipName, 0)
	if o.Port != 0 {
		d.ship = newPlace(d.dir.path, shipName, o.Port+1)
	}
	err = d.story(ctx)
	err = errors.Join(err, d.halt())
	switch {
	case err == nil:
		return d.dir.remove()
	case ctx.Err() != nil:
		return errors.Join(errInterrupted, d.dir.remove())
	case errors.Is(err, syscall.EADDRINUSE):
		return errors.Join(withHint(err, "choose other ports, as ferry demo --port 6000, or --port 0 for any that are free"), d.dir.remove())
	}
	return withHint(err, "what was written, with the logs of both registries, is in "+d.dir.path)
}

// halt stops what still runs.
func (d *demo) halt() error {
	err := errors.Join(d.ship.halt(), d.ashore.halt())
	if d.link != nil {
		d.link.close()
	}
	return err
}

// story is the demo, step by step.
func (d *demo) story(ctx context.Context) error {
	fmt.Fprintf(d.Out, "Ferry %s: images cross from a root registry to a connected registry,\n", telemetry.Version())
	fmt.Fprintf(d.Out, "here both on this machine, in %s.\n", d.dir.path)
	steps := []func(context.Context) error{
		d.startShore, d.pack, d.startShip, d.makeClient, d.firstPull, d.update, d.switchOff,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if d.Once {
		d.screen.say("")
		d.screen.say("That was all. Without --once, both go on serving, for you to try.")
		return nil
	}
	return d.serve(ctx)
}

// ferry shows a command and runs it. Redirections are shown, and are the
// caller's to follow.
func (d *demo) ferry(ctx context.Context, stdin, redirection string, args ...string) (string, error) {
	d.screen.typed(append([]string{"ferry"}, args...), redirection)
	return d.quietly(ctx, stdin, args...)
}

// quietly runs a command without showing it.
func (d *demo) quietly(ctx context.Context, stdin string, args ...string) (string, error) {
	return d.Ferry(ctx, d.configDir(), stdin, args)
}

// configDir is where the saved logins of the demo's registries are.
func (d *demo) configDir() string { return d.dir.join("logins") }

// until calls ready until it says so, and gives up once bytes, which says how
// far things are, has stood still for too long.
func (d *demo) until(ctx context.Context, what string, bytes func() int64, ready func() (bool, error)) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, moved := bytes(), time.Now()
	for {
		ok, err := ready()
		if err != nil || ok {
			return err
		}
		if now := bytes(); now != last {
			last, moved = now, time.Now()
		}
		if time.Since(moved) > patience {
			return fmt.Errorf("%s: nothing has moved for %s", what, patience)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// write keeps what a redirection would have.
func (d *demo) write(name, text string) (string, error) {
	path := d.dir.join(name)
	return path, adviseDirectory(os.WriteFile(path, []byte(text), 0o600))
}

// short is a path as it is shown: from the demo's directory on.
func (d *demo) short(path string) string {
	if rel, err := filepath.Rel(d.dir.path, path); err == nil {
		return rel
	}
	return path
}
