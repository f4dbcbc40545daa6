package noderuntime

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

// Restore brings back the files as they were before Configure, for the named runtimes or, if
// there are none, for all. What others changed in them since is kept. It also completes what a
// crash interrupted. A file that cannot be restored does not keep the others from it.
func (n *Node) Restore(ctx context.Context, kinds ...Kind) ([]Change, error) {
	unlock, err := n.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := n.load()
	if err != nil {
		return nil, err
	}
	if err := n.clean(st); err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		kinds = Kinds()
	}
	var changes []Change
	var failed error
	var left []string // the files that could not be restored
	for _, e := range undoOrder(st.Entries) {
		needed := func(path string) bool { return strings.HasPrefix(path, e.Path+"/") }
		for _, k := range kinds {
			if !slices.Contains(e.Runtimes, k) || e.Directory && slices.ContainsFunc(left, needed) {
				continue
			}
			c, err := n.release(st, e, k)
			if err != nil {
				failed, left = errors.Join(failed, err), append(left, e.Path)
			} else if c != nil {
				changes = append(changes, *c)
			}
		}
	}
	return changes, errors.Join(failed, n.save(st))
}

// undoOrder returns the entries in the order in which they can be undone: the last change
// first, but an authority after all files that may name it, and directories at the end, each
// before the one that it is in.
func undoOrder(entries []*entry) []*entry {
	all := slices.Clone(entries)
	slices.Reverse(all)
	rank := func(e *entry) int {
		switch {
		case e.Directory:
			return 1<<20 - len(e.Path)
		case e.Authority:
			return 1
		}
		return 0
	}
	slices.SortStableFunc(all, func(a, b *entry) int { return rank(a) - rank(b) })
	return all
}

// Changed returns the files that Configure changed and Restore would restore.
func (n *Node) Changed(kinds ...Kind) ([]Change, error) {
	st, err := n.load()
	if err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		kinds = Kinds()
	}
	var changes []Change
	for _, e := range undoOrder(st.Entries) {
		rest := slices.DeleteFunc(slices.Clone(e.Runtimes), func(k Kind) bool { return slices.Contains(kinds, k) })
		if e.Directory || len(rest) > 0 {
			continue
		}
		now, err := n.capture(e.Path)
		if err != nil {
			return nil, err
		}
		c, _, err := e.change(now)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.Needed = e.needed(e.Runtimes[0])
			changes = append(changes, *c)
		}
	}
	return changes, nil
}

// needed returns the command that makes a restored file of a runtime effective.
func (e *entry) needed(k Kind) string {
	switch {
	case k == Docker && !e.Authority:
		return dockerRestart
	case k == CRIO && !e.Authority:
		return crioReload
	}
	return ""
}

// change returns how a file is restored, and to what; nil if it is as it was.
func (e *entry) change(now *snapshot) (*Change, *snapshot, error) {
	want, edited, err := e.undone(now)
	c := &Change{Path: e.Path, Edited: edited}
	switch {
	case errors.Is(err, errEdited):
		c.Action = Kept
		return c, now, nil
	case err != nil:
		return nil, nil, err
	case want.same(now):
		return nil, now, nil
	case want == nil:
		c.Action = Removed
	default:
		c.Action = Restored
	}
	c.Diff = diff(e.Path, now, want)
	return c, want, nil
}

// release undoes an entry, unless another runtime than k needs it, too.
func (n *Node) release(st *state, e *entry, k Kind) (*Change, error) {
	if !e.dropRuntime(k) {
		return nil, nil
	}
	c, err := n.undo(st, e)
	if err != nil {
		e.addRuntime(k)
		return nil, err
	}
	if c != nil {
		c.Needed = e.needed(k)
	}
	st.Entries = slices.DeleteFunc(st.Entries, func(o *entry) bool { return o == e })
	return c, nil
}

// undo undoes one entry. It can be repeated.
func (n *Node) undo(st *state, e *entry) (*Change, error) {
	if e.Directory {
		names, err := n.list(e.Path)
		if err != nil || len(names) > 0 || !n.exists(e.Path) {
			return nil, err // others use it
		}
		return nil, n.remove(e.Path)
	}
	now, err := n.capture(e.Path)
	if err != nil {
		return nil, err
	}
	c, want, err := e.change(now)
	if c == nil || err != nil || c.Action == Kept {
		return c, err
	}
	if want != nil {
		return c, n.place(e.Path, want)
	}
	dir := filepath.Dir(e.Path)
	if parent := st.find(dir); parent != nil && parent.Whole {
		whole, err := n.removesAll(st, dir)
		if err != nil {
			return c, err
		}
		if whole {
			return c, n.removeDir(dir)
		}
	}
	return c, n.remove(e.Path)
}

// removesAll reports whether every file of a directory is Ferry's and will be removed.
func (n *Node) removesAll(st *state, dir string) (bool, error) {
	names, err := n.list(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		e := st.find(filepath.Join(dir, name))
		if e == nil || len(e.Runtimes) > 1 {
			return false, nil
		}
		now, err := n.capture(e.Path)
		if err != nil {
			return false, err
		}
		if want, _, err := e.undone(now); err != nil || want != nil {
			return false, nil
		}
	}
	return true, nil
}

// removeDir removes a directory with its files, which disappear together: a directory without
// hosts.toml would hide the default from containerd.
func (n *Node) removeDir(dir string) error {
	if err := n.rename(dir, temporary(dir)); err != nil {
		return err
	}
	return n.removeTemporary(dir)
}
