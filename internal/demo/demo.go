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
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"

	"ferry/internal/remote"
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
	Terminal bool // Out is one that can move its cursor: redraw progress
	Color    bool
	Columns  int // of the terminal; 0 is any number
	// Ferry runs one command of the program, without its name, with what it
	// reads from standard input, and returns what it wrote to standard output.
	Ferry func(ctx context.Context, configDir, stdin string, args []string) (stdout string, err error)
	// Hint adds to an error what its reader can do about it.
	Hint func(err error, format string, args ...any) error
}

// A demo is one run.
type demo struct {
	Options
	screen   *screen
	images   []*image
	known    map[digest.Digest]bool // parts of images
	root     *instance
	ship     *instance
	link     *link
	password string           // of the client token
	deckhand *remote.Registry // the ship, with that token
}

// Run runs the demo. Its error has a hint where there is something to do about
// it. It leaves nothing behind but a directory that was named, or, for whoever
// looks into a failure, its own.
func Run(ctx context.Context, o Options) error {
	d := &demo{
		Options: o,
		screen:  &screen{out: o.Out, terminal: o.Terminal, color: o.Color, columns: o.Columns},
		known:   map[digest.Digest]bool{},
	}
	for _, text := range o.Images {
		place, ok := strings.CutPrefix(text, "oci:")
		dir, tag, _ := strings.Cut(place, ":")
		err := fmt.Errorf("%q is no image: want oci:DIR:TAG, an OCI image layout and a tag in it", text)
		if ok && dir != "" {
			err = d.open(dir, tag)
		}
		if err != nil {
			return o.Hint(err,
				"make one with: skopeo copy docker://alpine:3 oci:alpine:3, then ferry demo --image oci:alpine:3")
		}
	}
	if err := d.makeDir(); err != nil {
		return err
	}
	err := errors.Join(d.story(ctx), d.stop())
	d.screen.write("") // no bar stays
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	case errors.Is(err, syscall.EADDRINUSE):
		err = o.Hint(err, "choose other ports, as ferry demo --port 6000, or --port 0 for any that are free")
	default:
		return d.advise(err, "what was written, with the logs of both registries, is in "+d.Dir)
	}
	if o.Dir == "" {
		err = errors.Join(err, os.RemoveAll(d.Dir))
	}
	return err
}

// makeDir makes the directory for all that the demo writes, which may be there
// but must be empty, and in it the one for saved logins.
func (d *demo) makeDir() (err error) {
	if d.Dir == "" {
		d.Dir, err = os.MkdirTemp("", "ferry-demo-")
	} else {
		d.Dir, err = filepath.Abs(d.Dir)
	}
	// A directory that cannot be read cannot be made either.
	if entries, _ := os.ReadDir(d.Dir); len(entries) > 0 {
		err := fmt.Errorf("%s is not empty", d.Dir)
		return d.Hint(err, "give --data-dir a new directory: the demo begins at the beginning")
	}
	if err == nil {
		err = os.MkdirAll(d.path("logins"), 0o700)
	}
	return d.advise(err, "name a directory that is there or can be made: ferry demo --data-dir DIR")
}

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

// stop stops what still runs.
func (d *demo) stop() error {
	err := errors.Join(d.ship.stop(), d.root.stop())
	if d.link != nil {
		err = errors.Join(err, d.link.Close())
	}
	return err
}

// advise adds to an error what to do about it: otherwise, unless the disk is
// at fault.
func (d *demo) advise(err error, otherwise string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		otherwise = "name a directory that you may write to: ferry demo --data-dir DIR"
	case errors.Is(err, syscall.ENOSPC):
		otherwise = "make room, or name a directory on another disk: ferry demo --data-dir DIR"
	}
	return d.Hint(err, "%s", otherwise)
}
