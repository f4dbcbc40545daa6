package noderuntime

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// A snapshot is a file or a symbolic link at one time. nil is a path that does not exist.
type snapshot struct {
	Digest   string      `json:"digest,omitempty"` // of the content, in hex; "" for a link
	Link     string      `json:"link,omitempty"`   // the target of a symbolic link
	Mode     fs.FileMode `json:"mode,omitempty"`   // permissions
	UID      int         `json:"uid"`
	GID      int         `json:"gid"`
	Modified time.Time   `json:"modified,omitzero"`

	text []byte
}

// newFile returns a file of this process's user.
func newFile(text []byte, mode fs.FileMode) *snapshot {
	return &snapshot{Digest: digestOf(text), Mode: mode, UID: os.Geteuid(), GID: os.Getegid(), text: text}
}

func newLink(target string) *snapshot {
	return &snapshot{Link: target, UID: os.Geteuid(), GID: os.Getegid()}
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// sameContent reports whether both have the same content, whoever may read it.
func (s *snapshot) sameContent(o *snapshot) bool {
	if s == nil || o == nil {
		return s == o
	}
	return s.Digest == o.Digest && s.Link == o.Link
}

// same reports whether both have the same content, mode and owner.
func (s *snapshot) same(o *snapshot) bool {
	return s.sameContent(o) && (s == nil || s.Link != "" || s.Mode == o.Mode && s.UID == o.UID && s.GID == o.GID)
}

// with returns a file with other content and the mode and owner of s.
func (s *snapshot) with(text []byte) *snapshot {
	c := *s
	c.Digest, c.Link, c.text, c.Modified = digestOf(text), "", text, time.Time{}
	return &c
}

// capture returns what is at a path of the machine.
func (n *Node) capture(path string) (*snapshot, error) {
	full, err := n.resolve(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Lstat(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	s := &snapshot{Mode: info.Mode().Perm(), Modified: info.ModTime()}
	s.UID, s.GID = ownerOf(info)
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		s.Mode, s.Modified = 0, time.Time{}
		s.Link, err = os.Readlink(full)
		return s, err
	case info.Mode().IsRegular():
		s.text, err = os.ReadFile(full)
		s.Digest = digestOf(s.text)
		return s, err
	}
	return nil, fmt.Errorf("%s is neither a file nor a symbolic link", path)
}

// temporary returns the path of the file or directory that becomes the one at path. It is
// known after a crash, and means nothing to a runtime.
func temporary(path string) string {
	return filepath.Join(filepath.Dir(path), ".ferry-client-"+digestOf([]byte(path))[:12])
}

// step is called before each change of the disk, with its name. Tests stop there.
func (n *Node) step(operation, path string) error {
	if n.fault == nil {
		return nil
	}
	return n.fault(operation + " " + path)
}

// place puts a file or link at a path, in one step.
func (n *Node) place(path string, s *snapshot) error {
	if err := n.step("write", path); err != nil {
		return err
	}
	if err := n.write(temporary(path), s); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return n.rename(temporary(path), path)
}

// write writes a file or link at a path that does not exist.
func (n *Node) write(path string, s *snapshot) error {
	full, err := n.resolve(path)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(full); err != nil {
		return err
	}
	if s.Link != "" {
		if err := os.Symlink(s.Link, full); err != nil {
			return err
		}
		return changeOwner(full, s.UID, s.GID)
	}
	f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(s.text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = changeOwner(full, s.UID, s.GID)
	}
	if err == nil {
		err = os.Chmod(full, s.Mode)
	}
	if err == nil && !s.Modified.IsZero() {
		err = os.Chtimes(full, time.Time{}, s.Modified)
	}
	return err
}

// rename renames a file or directory, and returns when a power loss cannot undo it.
func (n *Node) rename(from, to string) error {
	if err := n.step("rename", to); err != nil {
		return err
	}
	fullFrom, err := n.resolve(from)
	if err != nil {
		return err
	}
	fullTo, err := n.resolve(to)
	if err != nil {
		return err
	}
	if err := os.Rename(fullFrom, fullTo); err != nil {
		return err
	}
	return syncDir(filepath.Dir(fullTo))
}

// remove removes a file, a link or an empty directory, if it exists.
func (n *Node) remove(path string) error {
	if err := n.step("remove", path); err != nil {
		return err
	}
	full, err := n.resolve(path)
	if err != nil {
		return err
	}
	if err := os.Remove(full); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return syncDir(filepath.Dir(full))
}

// removeTemporary removes what a crash left of a change at path.
func (n *Node) removeTemporary(path string) error {
	full, err := n.resolve(temporary(path))
	if err != nil {
		return err
	}
	if _, err := os.Lstat(full); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := n.step("clean", path); err != nil {
		return err
	}
	return os.RemoveAll(full)
}

// list returns the names in a directory of the machine; none if it does not exist.
func (n *Node) list(path string) ([]string, error) {
	full, err := n.resolve(path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(full)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// makeDir makes a directory whose parent exists.
func (n *Node) makeDir(path string) error {
	if err := n.step("make", path); err != nil {
		return err
	}
	full, err := n.resolve(path)
	if err != nil {
		return err
	}
	if err := os.Mkdir(full, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(full, 0o755); err != nil { // whatever the umask is
		return err
	}
	return syncDir(filepath.Dir(full))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	err = dir.Sync()
	if errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, dir.Close())
}
