package noderuntime

import (
	"context"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v4"
)

// rancherSettings are the settings of K3s and RKE2 that matter here.
type rancherSettings struct {
	DataDir    string `yaml:"data-dir"`
	Registries string `yaml:"private-registry"`
	Embedded   bool   `yaml:"embedded-registry"`
}

// registriesFile is the part of registries.yaml that names registries.
type registriesFile struct {
	Mirrors map[string]any `yaml:"mirrors"`
	Configs map[string]any `yaml:"configs"`
}

func (n *Node) inspectRancher(ctx context.Context, k Kind, registries []string) Runtime {
	etc := "/etc/rancher/" + string(k)
	settings := rancherSettings{DataDir: "/var/lib/rancher/" + string(k), Registries: etc + "/registries.yaml"}
	var errs []error
	for _, file := range append([]string{etc + "/config.yaml"}, n.glob(etc+"/config.yaml.d/*.yaml")...) {
		text, err := n.readIfExists(file)
		if err == nil {
			err = yaml.Unmarshal(text, &settings)
		}
		errs = append(errs, err)
	}
	r := newRuntime(k, n.versionOf(ctx, string(k)), notNamed)
	r.config = n.configFile(settings.Registries)
	r.roots = []string{filepath.Join(settings.DataDir, "agent/etc/containerd/certs.d")}
	r.embedded = settings.Embedded
	text, err := n.readIfExists(r.config)
	errs = append(errs, err)
	names, err := namedRegistries(text)
	errs = append(errs, err)
	f := notNamed
	if r.embedded {
		f = embedded
	} else if slices.ContainsFunc(registries, func(host string) bool { return names[host] }) {
		f = named
	}
	r.Row = rowOf(k, r.version, f)
	r.Files = []string{r.roots[0] + "/HOST/hosts.toml"}
	if f != notNamed {
		r.Files = append([]string{r.config}, r.Files...)
	}
	for _, err := range errs {
		if err != nil {
			r.problem("%v", err)
		}
	}
	return r
}

// namedRegistries returns the registries that a registries.yaml names. K3s makes the
// directories of these anew at each start.
func namedRegistries(text []byte) (map[string]bool, error) {
	var file registriesFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for name := range file.Mirrors {
		names[name] = true
	}
	for name := range file.Configs {
		names[name] = true
	}
	return names, nil
}
