package noderuntime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// A state is the journal of everything that was changed on a node. It is written before the
// first change, and each entry recognises from the file itself whether its change was made,
// so a node can be restored after a crash between any two changes.
//
// It stands in the state directory as state.json, beside the content of the files as they
// were and as they were written, by digest. Both may contain passwords: mode 0600.
type state struct {
	Version int      `json:"version"`
	Entries []*entry `json:"entries"` // in the order of the changes
}

// stateVersion is the version of the state's form.
const stateVersion = 1

// An entry is one file, link or directory that was changed or made.
type entry struct {
	Path        string       `json:"path"`
	Runtimes    []Kind       `json:"runtimes"` // whose configuration needs it
	Directory   bool         `json:"directory,omitempty"`
	Whole       bool         `json:"whole,omitempty"` // a directory that is only seen with all its files
	Generations []generation `json:"generations,omitempty"`
	Hosts       []string     `json:"hosts,omitempty"` // names in the file that are only there because of Ferry
	// Authority says that running pulls may still read the file after no other file names it.
	Authority  bool      `json:"authority,omitempty"`
	Superseded time.Time `json:"superseded,omitzero"` // when no file named it any more
}

// A generation is a file before and after one change. Only a crash between the journal and the
// change leaves more than one.
type generation struct {
	Before *snapshot `json:"before"`
	Ours   *snapshot `json:"ours"`
}

func (s *state) find(path string) *entry {
	for _, e := range s.Entries {
		if e.Path == path {
			return e
		}
	}
	return nil
}

// newest returns the last generation of an entry.
func (e *entry) newest() *generation {
	if len(e.Generations) == 0 {
		return nil
	}
	return &e.Generations[len(e.Generations)-1]
}

func (n *Node) stateFile(name ...string) (string, error) {
	return n.resolve(filepath.Join(append([]string{n.state()}, name...)...))
}

// load reads the state. Without a file, it is empty.
func (n *Node) load() (*state, error) {
	path, err := n.stateFile("state.json")
	if err != nil {
		return nil, err
	}
	s := &state{Version: stateVersion}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("read %s: it is of another version of Ferry", path)
	}
	for _, e := range s.Entries {
		for _, g := range e.Generations {
			for _, f := range []*snapshot{g.Before, g.Ours} {
				if f != nil && f.Digest != "" {
					if f.text, err = n.content(f.Digest); err != nil {
						return nil, err
					}
				}
			}
		}
	}
	return s, nil
}

// content reads a saved content.
func (n *Node) content(digest string) ([]byte, error) {
	path, err := n.stateFile("content", digest)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(path)
	if err == nil && digestOf(text) != digest {
		err = fmt.Errorf("read %s: it is damaged", path)
	}
	return text, err
}

// save writes the state, with the contents that it names, and removes all others. A state
// without entries is removed.
func (n *Node) save(s *state) error {
	if len(s.Entries) == 0 {
		return n.removeState()
	}
	dir, err := n.stateFile("content")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	needed := map[string]bool{}
	for _, e := range s.Entries {
		for _, g := range e.Generations {
			for _, f := range []*snapshot{g.Before, g.Ours} {
				if f == nil || f.Digest == "" || needed[f.Digest] {
					continue
				}
				needed[f.Digest] = true
				if err := n.saveFile("content/"+f.Digest, f.text); err != nil {
					return err
				}
			}
		}
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	if err := n.saveFile("state.json", append(text, '\n')); err != nil {
		return err
	}
	names, err := n.list(filepath.Join(n.state(), "content"))
	for _, name := range names {
		if !needed[name] && err == nil {
			err = n.remove(filepath.Join(n.state(), "content", name))
		}
	}
	return err
}

// saveFile writes a file of the state directory, unless it has that content.
func (n *Node) saveFile(name string, text []byte) error {
	path := filepath.Join(n.state(), name)
	if old, err := n.capture(path); err == nil && old != nil && old.Digest == digestOf(text) {
		return nil
	}
	return n.place(path, newFile(text, 0o600))
}

// removeState empties the state directory, and removes it unless it is a mount point.
func (n *Node) removeState() error {
	path, err := n.stateFile()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	// The journal is empty now, so the order does not matter after it.
	if err := n.remove(filepath.Join(n.state(), "state.json")); err != nil {
		return err
	}
	names, err := n.list(n.state())
	for _, name := range names {
		if err := n.step("clean", name); err != nil {
			return err
		}
		err = errors.Join(err, os.RemoveAll(filepath.Join(path, name)))
	}
	if err == nil {
		_ = os.Remove(path)
	}
	return err
}

// lockInterval is how often a lock that another process has is tried again.
const lockInterval = 50 * time.Millisecond

// lock keeps other processes from changing the node. The caller calls unlock.
func (n *Node) lock(ctx context.Context) (unlock func(), err error) {
	dir, err := n.stateFile()
	if err != nil {
		return nil, err
	}
	for {
		// Others need the directories above, such as /var/lib.
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
		if errors.Is(err, fs.ErrNotExist) {
			continue // another process has removed the directory
		} else if err != nil {
			return nil, err
		}
		locked, err := tryLock(f)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if locked && sameFile(f) {
			return func() { f.Close() }, nil
		}
		f.Close()
		if locked {
			continue
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("lock %s: another process has it: %w", f.Name(), context.Cause(ctx))
		case <-time.After(lockInterval):
		}
	}
}

// sameFile reports whether the file is still the one at its path. Another process may have
// removed it, with the state, before this one locked it.
func sameFile(f *os.File) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	at, err := os.Stat(f.Name())
	return err == nil && os.SameFile(opened, at)
}

// addRuntime notes that the configuration of k needs the entry.
func (e *entry) addRuntime(k Kind) {
	if !slices.Contains(e.Runtimes, k) {
		e.Runtimes = append(e.Runtimes, k)
	}
}

// dropRuntime notes that the configuration of k no longer needs the entry, and reports
// whether none does.
func (e *entry) dropRuntime(k Kind) bool {
	e.Runtimes = slices.DeleteFunc(e.Runtimes, func(o Kind) bool { return o == k })
	return len(e.Runtimes) == 0
}
