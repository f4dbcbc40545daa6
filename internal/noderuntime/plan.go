package noderuntime

import (
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"slices"
)

// A plan is the files that one runtime is to have, in the order in which they are written.
type plan struct {
	node    *Node
	state   *state
	runtime Runtime
	files   []plannedFile
	notes   []string
	output  string // objects for an operator to apply
}

// A plannedFile is one file or link of a plan.
type plannedFile struct {
	path      string
	want      *snapshot
	before    *snapshot // the file without Ferry's changes
	reload    bool      // the runtime reads it only when it is reloaded or restarted
	authority bool
	whole     bool // a new directory for it appears with all its files
	hosts     []string
}

// plan returns the files of a runtime for the settings.
func (n *Node) plan(s *state, r Runtime, settings *Settings) (*plan, error) {
	p := &plan{node: n, state: s, runtime: r}
	if settings.hasPath() && !r.usesHostsFiles() {
		return nil, fmt.Errorf("%s cannot use an endpoint with a path: give the registry a host name of its own",
			r.name())
	}
	var err error
	switch r.Runtime {
	case Containerd, MicroK8s:
		err = p.containerd(settings)
	case K3s, RKE2:
		err = p.rancher(settings)
	case CRIO, Podman:
		err = p.containers(settings)
	case Docker:
		err = p.docker(settings)
	case OpenShift:
		p.output = openshift(settings)
		if len(settings.Mirrors) > 0 {
			p.note("an ImageTagMirrorSet, and changing or deleting either set, drains and reboots the nodes in turn")
		}
	case Talos:
		p.output = talos(settings)
	default:
		err = fmt.Errorf("%q is no runtime that Ferry knows", r.Runtime)
	}
	if earlier := p.earlierEndpoint(); earlier != "" && hostOf(earlier) != hostOf(settings.Endpoint) {
		p.note("a node has one endpoint: the configuration for %s is replaced by this one", earlier)
	}
	return p, err
}

// earlierEndpoint returns the endpoint that the runtime was last configured for; "" if there is none, or if its files
// do not say.
func (p *plan) earlierEndpoint() string {
	for _, e := range p.state.Entries {
		if e.Directory || e.newest() == nil || e.newest().Ours == nil || !e.Superseded.IsZero() ||
			!slices.Contains(e.Runtimes, p.runtime.Runtime) || filepath.Base(e.Path) != "hosts.toml" {
			continue
		}
		if found := p.node.endpointOf(e.Path, e.newest().Ours.text); found != nil {
			return found.URL
		}
	}
	return ""
}

// hostOf returns the host of an address, with its port; "" if it is not an address.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return u.Host
}

// usesHostsFiles reports whether the runtime is a containerd.
func (r Row) usesHostsFiles() bool {
	return r.Runtime == Containerd || r.Runtime == K3s || r.Runtime == RKE2 || r.Runtime == MicroK8s
}

func (p *plan) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// pristine returns a file without Ferry's changes; nil if it does not exist then.
func (p *plan) pristine(path string) (*snapshot, error) {
	now, err := p.node.capture(path)
	if err != nil {
		return nil, err
	}
	if e := p.state.find(path); e != nil && !e.Directory {
		now, _, err = e.undone(now)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: remove them, and run the command again", path, err)
		}
	}
	return now, nil
}

// text returns the content of a pristine file, also behind a link.
func (p *plan) text(path string, s *snapshot) ([]byte, error) {
	if s == nil {
		return nil, nil
	}
	if s.Link != "" {
		return p.node.read(path)
	}
	return s.text, nil
}

// fileOptions say how a file is written.
type fileOptions struct {
	secret    bool // only its owner may read it
	reload    bool
	authority bool
	whole     bool
	hosts     []string
}

// edit plans a file whose content follows from what it was without Ferry. If content returns
// nil, the file stays as it was.
func (p *plan) edit(path string, o fileOptions, content func(old []byte) ([]byte, error)) error {
	before, err := p.pristine(path)
	if err != nil {
		return err
	}
	old, err := p.text(path, before)
	if err != nil {
		return err
	}
	text, err := content(old)
	if err != nil {
		return fmt.Errorf("change %s: %w", path, err)
	}
	if text == nil {
		return nil
	}
	mode := fs.FileMode(0o644)
	want := newFile(text, mode)
	if before != nil && before.Link == "" {
		want = before.with(text)
	}
	if o.secret {
		want.Mode &= 0o600
	}
	if want.same(before) {
		return nil // somebody else wrote it, and will remove it
	}
	p.files = append(p.files, plannedFile{path: path, want: want, before: before, reload: o.reload,
		authority: o.authority, whole: o.whole, hosts: o.hosts})
	return nil
}

// create plans a file with the given content.
func (p *plan) create(path string, text []byte, o fileOptions) error {
	return p.edit(path, o, func([]byte) ([]byte, error) { return text, nil })
}

// link plans a symbolic link.
func (p *plan) link(path, target string) error {
	before, err := p.pristine(path)
	if err != nil {
		return err
	}
	if before != nil {
		if before.Link == target {
			return nil
		}
		return fmt.Errorf("%s exists", path)
	}
	p.files = append(p.files, plannedFile{path: path, want: newLink(target)})
	return nil
}
