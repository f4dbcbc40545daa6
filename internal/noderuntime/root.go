package noderuntime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// maxLinks bounds the symbolic links of one path, as the kernel does.
const maxLinks = 40

// mounted reports whether the machine's file system is mounted somewhere in this one.
func (n *Node) mounted() bool { return n.Root != "" && filepath.Clean(n.Root) != "/" }

func (n *Node) state() string { return cmp.Or(n.State, DefaultState) }

// resolve returns the path in this file system of path on the machine. It follows symbolic
// links as the machine would, except in the last element.
func (n *Node) resolve(path string) (string, error) {
	if !n.mounted() {
		return filepath.Clean(path), nil
	}
	done, rest, links := "/", filepath.Clean(path), 0
	for {
		rest = strings.TrimPrefix(rest, "/")
		element, after, more := strings.Cut(rest, "/")
		next := filepath.Join(done, element)
		if !more {
			return filepath.Join(n.Root, next), nil
		}
		target, err := os.Readlink(filepath.Join(n.Root, next))
		if err != nil { // it is no link, or does not exist
			done, rest = next, after
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("open %s: too many symbolic links", path)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(done, target)
		}
		// A path that begins at the machine's root again, and cannot leave it.
		done, rest = "/", filepath.Join("/", target, after)
	}
}

// read returns the content of a file of the machine. If the path is a symbolic link, that is
// the content of its target.
func (n *Node) read(path string) ([]byte, error) {
	for range maxLinks {
		full, err := n.resolve(path)
		if err != nil {
			return nil, err
		}
		target, err := os.Readlink(full)
		if err != nil || !n.mounted() {
			return os.ReadFile(full)
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return nil, fmt.Errorf("open %s: too many symbolic links", path)
}

// exists reports whether the machine has a file or directory at one of the paths.
func (n *Node) exists(paths ...string) bool {
	for _, path := range paths {
		if full, err := n.resolve(path); err == nil {
			if _, err := os.Lstat(full); err == nil {
				return true
			}
		}
	}
	return false
}

// isOtherDir reports whether path is a directory, and not a link to target.
func (n *Node) isOtherDir(path, target string) bool {
	full, err := n.resolve(path)
	if err != nil {
		return false
	}
	if to, err := os.Readlink(full); err == nil {
		return to != target && n.exists(path+"/.")
	}
	info, err := os.Stat(full)
	return err == nil && info.IsDir()
}

// readIfExists is read, and returns nil for a file that does not exist.
func (n *Node) readIfExists(path string) ([]byte, error) {
	text, err := n.read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// glob returns the files of the machine that match a pattern, in alphabetical order.
func (n *Node) glob(pattern string) []string {
	full, err := n.resolve(pattern)
	if err != nil {
		return nil
	}
	found, err := filepath.Glob(full)
	if err != nil {
		return nil
	}
	dir := filepath.Dir(pattern)
	for i := range found {
		found[i] = filepath.Join(dir, filepath.Base(found[i]))
	}
	return found
}

// programTimeout bounds one run of a program that prints its version or configuration.
const programTimeout = 10 * time.Second

// run runs a program of the machine. A mounted machine has none that could be run.
func (n *Node) run(ctx context.Context, name string, args ...string) ([]byte, error) {
	if n.Execute != nil {
		return n.Execute(ctx, name, args...)
	}
	if n.mounted() {
		return nil, exec.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, programTimeout)
	defer cancel()
	return exec.CommandContext(ctx, name, args...).Output()
}

// versionOf asks a program of the machine for its version, unless the caller knows it.
func (n *Node) versionOf(ctx context.Context, program string) version {
	if v := parseVersion(n.Version); v.known() {
		return v
	}
	out, err := n.run(ctx, program, "--version")
	if err != nil {
		return version{}
	}
	return parseVersion(strings.ReplaceAll(string(out), ",", " "))
}
