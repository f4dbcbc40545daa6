// Package demo shows Ferry at work on one machine. It runs a root registry and a connected
// registry, syncs an image and then its next version from one to the other, and pulls them
// while the root is stopped. It uses the commands of the program and the APIs of the
// registries, like a user. Begin with story.go.
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

// Options are the settings of a demo.
type Options struct {
	Dir      string   // "" is a temporary directory, which is deleted at the end
	Port     int      // of the root; the connected registry has the next one. 0 is any two free ports
	Images   []string // oci:DIR:TAG; none are images made from Program
	Once     bool     // end after the last step, instead of serving until ctx ends
	LinkRate int64    // bytes that the link carries in a second; 0 is no limit
	Program  string   // the executable
	Out      io.Writer
	Terminal bool // Out is a terminal: redraw progress
	Color    bool
	Columns  int // the width of the terminal; 0 is no limit
	// Ferry runs a command of the program, given without the program's name. It returns the
	// standard output.
	Ferry func(ctx context.Context, configDir, stdin string, args []string) (stdout string, err error)
	// Hint adds a hint to an error.
	Hint func(err error, format string, args ...any) error
}

// A demo is one run of the demo.
type demo struct {
	Options
	screen   *screen
	images   []*image
	known    map[digest.Digest]bool // manifests and blobs of the images so far
	root     *instance
	ship     *instance
	link     *link
	password string           // of the client token
	deckhand *remote.Registry // the ship, used with that token
}

// Run runs the demo. Its error has a hint if a person can solve the problem. It deletes its
// directory at the end, unless Dir named it, or the demo failed.
func Run(ctx context.Context, o Options) error {
	d := &demo{
		Options: o,
		screen:  &screen{out: o.Out, terminal: o.Terminal, color: o.Color, columns: o.Columns},
		known:   map[digest.Digest]bool{},
	}
	for _, text := range o.Images {
		place, ok := strings.CutPrefix(text, "oci:")
		dir, tag, _ := strings.Cut(place, ":")
		err := fmt.Errorf("%q is not an image: want oci:DIR:TAG, an OCI image layout and a tag in it", text)
		if ok && dir != "" {
			err = d.addImage(dir, tag)
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
	d.screen.write("") // remove the bar
	switch {
	case err == nil:
	case ctx.Err() != nil:
		err = errors.New("interrupted")
	case errors.Is(err, syscall.EADDRINUSE):
		err = o.Hint(err, "choose other ports, such as ferry demo --port 6000, or --port 0 for any free ports")
	default:
		return d.advise(err, "all files, with the logs of both registries, are in "+d.Dir)
	}
	if o.Dir == "" {
		err = errors.Join(err, os.RemoveAll(d.Dir))
	}
	return err
}

// makeDir creates the directory for all files of the demo, with a directory for saved
// logins in it. The directory may exist, but must be empty.
func (d *demo) makeDir() (err error) {
	if d.Dir == "" {
		d.Dir, err = os.MkdirTemp("", "ferry-demo-")
	} else {
		d.Dir, err = filepath.Abs(d.Dir)
	}
	// If the directory cannot be read, creating it fails, too.
	if entries, _ := os.ReadDir(d.Dir); len(entries) > 0 {
		err := fmt.Errorf("%s is not empty", d.Dir)
		return d.Hint(err, "give --data-dir a new directory: a demo cannot be continued")
	}
	if err == nil {
		err = os.MkdirAll(d.path("logins"), 0o700)
	}
	return d.advise(err, "name a directory that exists or can be created: ferry demo --data-dir DIR")
}

func (d *demo) path(name string) string { return filepath.Join(d.Dir, name) }

// stop stops the registries and the link.
func (d *demo) stop() error {
	err := errors.Join(d.ship.stop(), d.root.stop())
	if d.link != nil {
		err = errors.Join(err, d.link.Close())
	}
	return err
}

// advise adds a hint to an error: one about the disk if that is the cause, else otherwise.
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
