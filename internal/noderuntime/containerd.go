package noderuntime

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Where containerd 2.2 and newer look if neither config_path nor mirrors is set.
const defaultConfigPath = "/etc/containerd/certs.d:/etc/docker/certs.d"

// splitsNothing is the first containerd whose pulls for Kubernetes take all of config_path for
// one directory: https://github.com/containerd/containerd/issues/12808. A later version that
// splits it again is not harmed by the link.
var splitsNothing = version{2, 1}

// registryConfig is the part of containerd's configuration that decides where registries are
// configured.
type registryConfig struct {
	configPath string
	mirrors    bool // registry.mirrors has entries
	disabled   bool // the plugin for Kubernetes is
	version    int  // of the configuration's format
}

func (n *Node) inspectContainerd(ctx context.Context) Runtime {
	v := n.versionOf(ctx, "containerd")
	file := n.configFile("/etc/containerd/config.toml")
	c, err := n.containerdConfig(ctx, file, v)
	f, roots := noRoot, []string{"/etc/containerd/certs.d"}
	switch {
	case c.disabled:
		f = criDisabled
	case c.configPath != "":
		if roots = splitList(c.configPath); len(roots) > 1 {
			f = severalRoots
		} else {
			f = oneRoot
		}
	case c.mirrors:
		f = legacyMirrors
	}
	r := newRuntime(Containerd, v, f)
	r.config, r.roots = file, roots
	if r.found == noRoot && r.Live {
		r.roots = splitList(defaultConfigPath)
	}
	if link := r.link(); link != "" && n.isOtherDir(link, r.roots[0]) {
		r.roots = []string{link} // somebody solved the same problem
	}
	if err != nil {
		r.problem("%v", err)
	}
	if !v.known() && f == noRoot {
		r.problem("the version of containerd is not known: before 2.2, set config_path in %s and restart it once", file)
	}
	r.Files = []string{r.roots[0] + "/HOST/hosts.toml"}
	if link := r.link(); link != "" {
		r.Files = append(r.Files, link+" -> "+r.roots[0])
	}
	if r.found == noRoot && !r.Live {
		r.Files = append(r.Files, file)
	}
	return r
}

// link returns the path at which a containerd that does not split config_path looks for the
// directories of registries, or "" if it finds them without a link.
func (r *Runtime) link() string {
	if len(r.roots) < 2 || r.version.known() && r.version.less(splitsNothing) {
		return ""
	}
	return strings.Join(r.roots, ":")
}

// splitList splits a value of config_path.
func splitList(text string) []string {
	return slices.DeleteFunc(strings.Split(text, ":"), func(s string) bool { return s == "" })
}

// containerdConfig returns the effective configuration: of the program if it can be run, else
// of the files.
func (n *Node) containerdConfig(ctx context.Context, file string, v version) (registryConfig, error) {
	if text, err := n.run(ctx, "containerd", "--config", file, "config", "dump"); err == nil {
		var c registryConfig
		if err := c.add(text); err == nil {
			return c, nil
		}
	}
	var c registryConfig
	return c, n.addConfigFiles(&c, file, v, map[string]bool{})
}

// addConfigFiles adds a file and those that it imports, whose values take precedence.
func (n *Node) addConfigFiles(c *registryConfig, file string, v version, known map[string]bool) error {
	if known[file] {
		return nil
	}
	known[file] = true
	text, err := n.readIfExists(file)
	if err != nil {
		return err
	}
	if err := c.add(text); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	var settings struct {
		Imports []string `toml:"imports"`
	}
	if err := toml.Unmarshal(text, &settings); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	if settings.Imports == nil && !v.less(version{2, 2}) && len(known) == 1 {
		settings.Imports = []string{"/etc/containerd/conf.d/*.toml"} // the default of 2.2 and newer
	}
	var errs []error
	for _, pattern := range settings.Imports {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		for _, imported := range n.glob(pattern) {
			errs = append(errs, n.addConfigFiles(c, imported, v, known))
		}
	}
	return errors.Join(errs...)
}

// criPlugins are the names of the plugin that pulls for Kubernetes, in the formats 3 and 4, 2,
// and 1 of the configuration.
var criPlugins = []string{"io.containerd.cri.v1.images", "io.containerd.grpc.v1.cri", "cri"}

// add reads one file of containerd's configuration.
func (c *registryConfig) add(text []byte) error {
	var settings struct {
		Version  int      `toml:"version"`
		Disabled []string `toml:"disabled_plugins"`
		Plugins  map[string]struct {
			Registry struct {
				ConfigPath string         `toml:"config_path"`
				Mirrors    map[string]any `toml:"mirrors"`
			} `toml:"registry"`
		} `toml:"plugins"`
	}
	if err := toml.Unmarshal(text, &settings); err != nil {
		return err
	}
	c.version = max(c.version, settings.Version)
	for _, name := range criPlugins {
		if slices.Contains(settings.Disabled, name) {
			c.disabled = true
		}
		if path := settings.Plugins[name].Registry.ConfigPath; path != "" {
			c.configPath = path
		}
		if len(settings.Plugins[name].Registry.Mirrors) > 0 {
			c.mirrors = true
		}
	}
	return nil
}

// inspectMicroK8s reads the template of MicroK8s' containerd, which stands in its snap.
func (n *Node) inspectMicroK8s() Runtime {
	const args = "/var/snap/microk8s/current/args"
	file := n.configFile(args + "/containerd-template.toml")
	text, err := n.readIfExists(file)
	f := oneRoot
	var c registryConfig
	if err == nil {
		err = c.add(text)
	}
	if c.configPath == "" {
		f = noRoot
	}
	r := newRuntime(MicroK8s, parseVersion(n.Version), f)
	r.config, r.roots = file, []string{args + "/certs.d"}
	if path, ok := strings.CutPrefix(c.configPath, "${SNAP_DATA}"); ok {
		r.roots = []string{"/var/snap/microk8s/current" + path}
	} else if c.configPath != "" {
		r.roots = splitList(c.configPath)
	}
	if err != nil {
		r.problem("read %s: %v", file, err)
	}
	r.Files = []string{r.roots[0] + "/HOST/hosts.toml"}
	return r
}

// containerd plans the files of containerd and of MicroK8s.
func (p *plan) containerd(s *Settings) error {
	r := &p.runtime
	if err := p.hostsFiles(r.roots[0], s); err != nil {
		return err
	}
	if link := r.link(); link != "" {
		if err := p.link(link, r.roots[0]); err != nil {
			return err
		}
	}
	if r.Runtime != Containerd { // the template is the snap's
		return nil
	}
	// An earlier change of the file stays, although it makes this one unnecessary.
	if p.state.find(r.config) == nil && (r.found != noRoot || r.Live) {
		return nil
	}
	if p.state.find(r.config) == nil && !s.EditConfig {
		p.note("%s is not changed without --edit-config", r.config)
		return nil
	}
	return p.edit(r.config, fileOptions{reload: true}, func(old []byte) ([]byte, error) {
		return setConfigPath(old, r.roots[0], r.version)
	})
}

// setConfigPath sets config_path in a config.toml that has none.
func setConfigPath(old []byte, path string, v version) ([]byte, error) {
	var c registryConfig
	if err := c.add(old); err != nil {
		return nil, err
	}
	tables, err := tablesOf(old)
	if err != nil {
		return nil, err
	}
	text, setting := string(old), fmt.Sprintf("config_path = %q\n", path)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for i, t := range tables {
		if len(t.key) != 3 || t.key[0] != "plugins" || t.key[2] != "registry" ||
			!slices.Contains(criPlugins, t.key[1]) {
			continue
		}
		end := len(text)
		if i+1 < len(tables) {
			end = tables[i+1].begin
		}
		return checkedConfig(text[:t.begin]+setInTable(text[t.begin:end], "config_path", setting)+text[end:], path)
	}
	if c.version == 0 {
		c.version = 2
		if !v.less(version{2}) {
			c.version = 3
		}
		text = fmt.Sprintf("version = %d\n%s", c.version, text)
	}
	plugin := criPlugins[max(0, min(2, 3-c.version))]
	return checkedConfig(text+fmt.Sprintf("\n[plugins.%q.registry]\n  %s", plugin, setting), path)
}

// setInTable sets a key in the lines of a TOML table, which begin with its header.
func setInTable(text, key, setting string) string {
	all := slices.Collect(strings.Lines(text))
	for i, line := range all[1:] {
		if name, _, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) == key {
			all[i+1] = line[:len(line)-len(strings.TrimLeft(line, " \t"))] + setting
			return strings.Join(all, "")
		}
	}
	indent := all[0][:len(all[0])-len(strings.TrimLeft(all[0], " \t"))] + "  "
	return strings.Join(slices.Insert(all, 1, indent+setting), "")
}

// checkedConfig returns text if containerd reads path from it.
func checkedConfig(text, path string) ([]byte, error) {
	var c registryConfig
	if err := c.add([]byte(text)); err != nil {
		return nil, err
	}
	if c.configPath != path {
		return nil, errors.New("its plugins are written in a way that Ferry does not change")
	}
	return []byte(text), nil
}
