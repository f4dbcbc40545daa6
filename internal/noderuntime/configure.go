package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Result says what was done to one runtime, or would be.
type Result struct {
	Runtime
	Changes []Change `json:"changes"`
	// Needed is the step that makes the changes effective; "" if they are at the next pull.
	Needed string   `json:"needed,omitempty"`
	Notes  []string `json:"notes,omitempty"`
	// Objects are what an operator must apply, because Ferry changes no file of such a node.
	Objects string `json:"objects,omitempty"`
}

// An Action is what happens to a file.
type Action string

// The actions.
const (
	Created  Action = "created"
	Changed  Action = "changed"
	Restored Action = "restored" // as it was before Ferry changed it, or without Ferry's lines
	Removed  Action = "removed"
	Kept     Action = "kept" // somebody edited it, so that Ferry's lines cannot be told apart
)

// A Change is one file that was changed, or would be.
type Change struct {
	Path   string `json:"path"`
	Action Action `json:"action"`
	// Edited says that somebody had changed the file since Ferry wrote it. That change is kept.
	Edited bool   `json:"edited,omitempty"`
	Diff   string `json:"diff,omitempty"` // unified, without secrets
	// Needed is the command that makes a restored file effective; "" if it is at the next pull.
	Needed string `json:"needed,omitempty"`
}

// Choose returns the runtimes with a name, or those of auto. A runtime that is named need not
// have been found.
func (n *Node) Choose(ctx context.Context, name string, s *Settings) ([]Runtime, error) {
	if name == "auto" {
		found := n.Automatic(n.Detect(ctx, s.registries()...))
		if len(found) == 0 {
			return nil, errors.New("no container runtime was found")
		}
		return found, nil
	}
	if !slices.Contains(Kinds(), Kind(name)) {
		return nil, fmt.Errorf("%q is no runtime that Ferry knows", name)
	}
	r := n.inspect(ctx, Kind(name), s.registries())
	if !n.mounted() && !r.name().Prints() && !n.has(ctx, r.name()) {
		r.problem("%s was not found on this machine", name)
	}
	return []Runtime{r}, nil
}

// Preview returns the results that Configure would return, and changes nothing.
func (n *Node) Preview(_ context.Context, runtimes []Runtime, s *Settings) ([]Result, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	st, err := n.load()
	if err != nil {
		return nil, err
	}
	return each(runtimes, func(r Runtime) (Result, error) {
		p, err := n.plan(st, r, s)
		if err != nil {
			return Result{}, err
		}
		return p.result()
	})
}

// each calls do for each runtime, also after one that fails, and returns the results and the
// errors.
func each(runtimes []Runtime, do func(Runtime) (Result, error)) (all []Result, err error) {
	var errs []error
	for _, r := range runtimes {
		result, err := do(r)
		if err != nil {
			errs = append(errs, fmt.Errorf("configure %s: %w", r.name(), err))
			continue
		}
		all = append(all, result)
	}
	return all, errors.Join(errs...)
}

// Configure writes the files of the runtimes. Running it again changes nothing, or repairs
// the files, or replaces the earlier settings. It leaves an authority's file that is no longer
// needed for a while, because running pulls may still read it. If one runtime fails, the
// others are configured, and it returns their results with the error.
func (n *Node) Configure(ctx context.Context, runtimes []Runtime, s *Settings) ([]Result, error) {
	if err := s.Check(); err != nil {
		return nil, err
	}
	unlock, err := n.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	st, err := n.load()
	if err != nil {
		return nil, err
	}
	all, err := each(runtimes, func(r Runtime) (Result, error) {
		p, err := n.plan(st, r, s)
		if err != nil {
			return Result{}, err
		}
		result, err := p.result()
		if err == nil {
			err = p.apply()
		}
		return result, err
	})
	if len(st.Entries) == 0 {
		err = errors.Join(err, n.removeState()) // of the lock
	}
	return all, err
}

// result compares the plan with the files as they are.
func (p *plan) result() (Result, error) {
	r := Result{Runtime: p.runtime, Notes: p.notes, Objects: p.output, Changes: []Change{}}
	reload := false
	for _, f := range p.files {
		now, err := p.node.capture(f.path)
		if err != nil {
			return r, err
		}
		if now.same(f.want) {
			continue
		}
		action := Changed
		if now == nil {
			action = Created
		}
		r.Changes = append(r.Changes, Change{Path: f.path, Action: action, Diff: diff(f.path, now, f.want)})
		reload = reload || f.reload
	}
	for _, e := range p.unwanted() {
		now, err := p.node.capture(e.Path)
		if err != nil {
			return r, err
		}
		if e.Authority || len(e.Runtimes) > 1 {
			continue
		}
		c, _, err := e.change(now)
		if err != nil {
			return r, err
		}
		if c != nil {
			r.Changes = append(r.Changes, *c)
			reload = reload || p.runtime.Runtime == Docker || p.runtime.Runtime == CRIO
		}
	}
	if reload || !p.runtime.Live && p.runtime.Runtime != Docker && p.runtime.Runtime != CRIO {
		r.Needed = p.runtime.Step
	}
	return r, nil
}

// unwanted returns the entries of files that an earlier configuration of the runtime needed and
// this one does not.
func (p *plan) unwanted() []*entry {
	var all []*entry
	for _, e := range p.state.Entries {
		if e.Directory || !slices.Contains(e.Runtimes, p.runtime.Runtime) {
			continue
		}
		if !slices.ContainsFunc(p.files, func(f plannedFile) bool { return f.path == e.Path }) {
			all = append(all, e)
		}
	}
	return all
}

// grace is how long a running pull may still read an authority's file that no other file names.
const grace = time.Minute

// apply writes the files: first the journal, then each file, and at last it removes what is no
// longer needed.
func (p *plan) apply() error {
	n, st, kind := p.node, p.state, p.runtime.Runtime
	if err := n.clean(st); err != nil {
		return err
	}
	for _, f := range p.files {
		if err := p.journalDirectories(f); err != nil {
			return err
		}
		e := st.find(f.path)
		if e == nil {
			e = &entry{Path: f.path, Authority: f.authority}
			st.Entries = append(st.Entries, e)
		}
		e.addRuntime(kind)
		e.Hosts, e.Superseded = f.hosts, time.Time{}
		g := generation{Before: f.before, Ours: f.want}
		if old := e.newest(); old == nil || !old.Before.same(g.Before) || !old.Ours.same(g.Ours) {
			e.Generations = append(e.Generations, g)
		}
	}
	unwanted := p.unwanted()
	if len(st.Entries) == 0 {
		return nil
	}
	if err := n.save(st); err != nil {
		return err
	}
	files := p.files
	for len(p.files) > 0 {
		written, err := p.writeNext()
		if err != nil {
			return err
		}
		p.files = p.files[written:]
	}
	for _, e := range undoOrder(unwanted) {
		if e.Authority && e.Superseded.IsZero() {
			e.Superseded = time.Now()
		}
		if e.Authority && time.Since(e.Superseded) < grace {
			continue
		}
		if _, err := n.release(st, e, kind); err != nil {
			return err
		}
	}
	for _, f := range files { // these changes were made
		if e := st.find(f.path); e != nil {
			e.Generations = e.Generations[len(e.Generations)-1:]
		}
	}
	return n.save(st)
}

// journalDirectories notes the directories that a file needs and that do not exist.
func (p *plan) journalDirectories(f plannedFile) error {
	var missing []string
	for dir := filepath.Dir(f.path); !p.node.exists(dir) && dir != "/"; dir = filepath.Dir(dir) {
		missing = append(missing, dir)
	}
	for i, dir := range slices.Backward(missing) {
		e := p.state.find(dir)
		if e == nil {
			e = &entry{Path: dir, Directory: true, Whole: f.whole && i == 0}
			p.state.Entries = append(p.state.Entries, e)
		}
		e.addRuntime(p.runtime.Runtime)
	}
	for dir := filepath.Dir(f.path); dir != "/"; dir = filepath.Dir(dir) {
		if e := p.state.find(dir); e != nil { // another runtime made it
			e.addRuntime(p.runtime.Runtime)
		}
	}
	return nil
}

// writeNext writes the next file, with the directories that it needs. If its directory must be
// whole, it writes all its files. It returns the number of files.
func (p *plan) writeNext() (int, error) {
	n, f := p.node, p.files[0]
	dir := filepath.Dir(f.path)
	var missing []string
	for d := dir; !n.exists(d) && d != "/"; d = filepath.Dir(d) {
		missing = append(missing, d)
	}
	whole := f.whole && len(missing) > 0
	if whole {
		missing = missing[1:]
	}
	for _, d := range slices.Backward(missing) {
		if err := n.makeDir(d); err != nil {
			return 0, err
		}
	}
	if !whole {
		now, err := n.capture(f.path)
		if err != nil || now.same(f.want) {
			return 1, err
		}
		return 1, n.place(f.path, f.want)
	}
	count := 0
	for count < len(p.files) && filepath.Dir(p.files[count].path) == dir {
		count++
	}
	return count, n.placeDir(dir, p.files[:count])
}

// placeDir makes a directory with its files, which appear together.
func (n *Node) placeDir(dir string, files []plannedFile) error {
	temp := temporary(dir)
	if err := n.makeDir(temp); err != nil {
		return err
	}
	for _, f := range files {
		path := filepath.Join(temp, filepath.Base(f.path))
		if err := n.step("write", path); err != nil {
			return err
		}
		if err := n.write(path, f.want); err != nil {
			return fmt.Errorf("write %s: %w", f.path, err)
		}
	}
	full, err := n.resolve(temp)
	if err != nil {
		return err
	}
	if err := syncDir(full); err != nil {
		return err
	}
	return n.rename(temp, dir)
}

// clean removes what a crash left of earlier changes.
func (n *Node) clean(st *state) error {
	for _, e := range st.Entries {
		if err := n.removeTemporary(e.Path); err != nil {
			return err
		}
	}
	return nil
}

// diff returns the change from old to new as a unified diff without secrets.
func diff(path string, old, new *snapshot) string {
	return unified(strings.TrimPrefix(path, "/"), old, new)
}

func (r Row) name() Kind { return r.Runtime }
