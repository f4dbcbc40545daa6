package noderuntime

import (
	"bytes"
	"encoding/base64"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// A Configured is what [Node.Configure] left on a node for one runtime.
type Configured struct {
	ByChart bool     // the DaemonSet of the chart connected-registry did it
	Files   []string // that it wrote
	Changed []string // those of them that somebody has changed or removed since
	// MissingLink is where this containerd looks for the directories of registries, and finds
	// nothing, because it does not split config_path (2.1 to 2.4); "" if it finds them.
	MissingLink string
	// Endpoint is the registry of the files; nil if they do not say.
	Endpoint *Endpoint
}

// An Endpoint is a registry as a runtime reaches it.
type Endpoint struct {
	URL                string
	CA                 []byte // in PEM; nil is the system's
	Username, Password string // sent with each request; "" is none
}

// chartState is the directory in which the DaemonSet of the chart connected-registry remembers the
// files of a runtime; "" if the chart does not know the runtime. It is the chart's --state-dir.
func chartState(k Kind) string {
	switch k {
	case Containerd:
		return "/etc/containerd/ferry-client"
	case K3s, RKE2:
		return "/var/lib/rancher/" + string(k) + "/agent/etc/containerd/ferry-client"
	case MicroK8s:
		return "/var/snap/microk8s/current/args/ferry-client"
	case CRIO:
		return "/etc/containers/ferry-client"
	}
	return ""
}

// Configured returns what Configure left for a runtime that [Node.Detect] found, here or in the
// DaemonSet of the chart. It changes nothing.
func (n *Node) Configured(r Runtime) (Configured, error) {
	c, err := n.configured(r)
	if dir := chartState(r.Runtime); err == nil && len(c.Files) == 0 && n.State == "" && dir != "" {
		chart := *n
		chart.State = dir
		c, err = chart.configured(r)
		c.ByChart = len(c.Files) > 0
	}
	return c, err
}

func (n *Node) configured(r Runtime) (c Configured, err error) {
	st, err := n.load()
	if err != nil {
		return c, err
	}
	for _, e := range st.Entries {
		if e.Directory || e.newest() == nil || !slices.Contains(e.Runtimes, r.Runtime) || !e.Superseded.IsZero() {
			continue
		}
		ours := e.newest().Ours
		c.Files = append(c.Files, e.Path)
		now, err := n.capture(e.Path)
		if err != nil {
			return c, err
		}
		if !ours.same(now) {
			c.Changed = append(c.Changed, e.Path)
		}
		if c.Endpoint == nil && ours != nil && filepath.Base(e.Path) == "hosts.toml" {
			c.Endpoint = n.endpointOf(e.Path, ours.text)
		}
	}
	if link := r.link(); link != "" && !n.exists(link) {
		if len(c.Files) > 0 || len(n.glob(r.roots[0]+"/*/hosts.toml")) > 0 {
			c.MissingLink = link
		}
	}
	return c, nil
}

// endpointOf returns the registry of a hosts.toml that Ferry made; nil if it is another file.
func (n *Node) endpointOf(path string, text []byte) *Endpoint {
	var f struct {
		Server string         `toml:"server"`
		CA     string         `toml:"ca"`
		Header map[string]any `toml:"header"`
	}
	if !bytes.HasPrefix(text, []byte(hostsComment)) || toml.Unmarshal(text, &f) != nil || f.Server == "" {
		return nil
	}
	e := &Endpoint{URL: f.Server}
	if f.CA != "" {
		e.CA, _ = n.read(filepath.Join(filepath.Dir(path), f.CA)) // without it, the check of TLS fails
	}
	if values, ok := f.Header["authorization"].([]any); ok && len(values) == 1 {
		header, _ := values[0].(string)
		login, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(header, "Basic "))
		e.Username, e.Password, _ = strings.Cut(string(login), ":")
	}
	return e
}
