package noderuntime

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// inspectCRIO reads the configuration of CRI-O, which has registries.conf in common with Podman.
func (n *Node) inspectCRIO(ctx context.Context) Runtime {
	var settings struct {
		CRIO struct {
			Image struct {
				AutoReload bool `toml:"auto_reload_registries"`
			} `toml:"image"`
		} `toml:"crio"`
	}
	file := n.configFile("/etc/crio/crio.conf")
	var problems []error
	for _, file := range append([]string{file}, n.glob("/etc/crio/crio.conf.d/*")...) {
		text, err := n.readIfExists(file)
		if err == nil {
			err = toml.Unmarshal(text, &settings)
		}
		if err != nil {
			problems = append(problems, err)
		}
	}
	f := noReload
	if settings.CRIO.Image.AutoReload {
		f = reloadsByItself
	}
	r := newRuntime(CRIO, n.versionOf(ctx, "crio"), f)
	r.config = file
	for _, err := range problems {
		r.problem("read CRI-O's configuration: %v", err)
	}
	return r
}

const (
	registriesConf = "/etc/containers/registries.conf"
	// policyFile comes after the other files of its directory, because a later one replaces what
	// an earlier one says about a registry. One that comes later still is an error.
	policyFile = "/etc/containers/registries.conf.d/zz-ferry-client.conf"
	policyHead = "# Written by ferry client configure; ferry client restore removes it.\n"
)

// containers plans the files that CRI-O, Podman, Buildah and Skopeo read.
func (p *plan) containers(s *Settings) error {
	if name := s.caName(); name != "" {
		file := filepath.Join("/etc/containers/certs.d", s.host(), name)
		if err := p.create(file, s.CA, fileOptions{authority: true}); err != nil {
			return err
		}
	}
	if s.Username != "" {
		p.note("the password is not written: use a pull secret, a credential provider, or podman login %s", s.host())
	}
	registries, err := p.policy(s)
	if err != nil || len(registries) == 0 {
		return err
	}
	text, err := toml.Marshal(map[string]any{"registry": registries})
	if err != nil {
		return err
	}
	return p.create(policyFile, append([]byte(policyHead), text...), fileOptions{reload: true})
}

// policy returns the tables of the registries that are mirrored, renamed or without TLS.
func (p *plan) policy(s *Settings) ([]map[string]any, error) {
	var all []map[string]any
	for _, name := range s.own() {
		r := map[string]any{"prefix": name, "location": s.host()}
		if s.plainHTTP() {
			r["insecure"] = true
		}
		if name != s.host() || s.plainHTTP() {
			if _, err := p.configured(name); err != nil {
				return nil, err
			}
			all = append(all, r)
		}
	}
	for _, name := range s.Mirrors {
		if name == AllRegistries {
			p.note("%s has no mirror for all registries: name each with --mirror-of", p.runtime.Runtime)
			continue
		}
		old, err := p.configured(name)
		if err != nil {
			return nil, err
		}
		location := s.host()
		if prefix := strings.Trim(s.Prefixes[name], "/"); prefix != "" {
			location += "/" + prefix
		}
		mirror := map[string]any{"location": location}
		if s.plainHTTP() {
			mirror["insecure"] = true
		}
		if s.NoUpstream {
			mirror["prefix"] = name
			all = append(all, mirror)
			continue
		}
		r := map[string]any{"prefix": name, "location": name}
		for key, value := range old {
			r[key] = value
		}
		others, _ := r["mirror"].([]any)
		r["mirror"] = append([]any{mirror}, others...)
		all = append(all, r)
	}
	return all, nil
}

// configured returns the table of a registry in the other files, because Ferry's replaces it.
func (p *plan) configured(name string) (map[string]any, error) {
	var found map[string]any
	for _, file := range append([]string{registriesConf}, p.node.glob(filepath.Dir(policyFile)+"/*.conf")...) {
		if file == policyFile {
			continue
		}
		text, err := p.node.readIfExists(file)
		if err != nil {
			return nil, err
		}
		var settings struct {
			Registry []map[string]any `toml:"registry"`
		}
		if err := toml.Unmarshal(text, &settings); err != nil {
			p.note("%s is not valid: %v", file, err)
			continue
		}
		for _, r := range settings.Registry {
			if r["prefix"] != name && (r["prefix"] != nil || r["location"] != name) {
				continue
			}
			if filepath.Base(file) > filepath.Base(policyFile) && file != registriesConf {
				return nil, fmt.Errorf("%s replaces what %s says about %s: rename it, so that it comes earlier",
					file, filepath.Base(policyFile), name)
			}
			found = r
		}
	}
	return found, nil
}
