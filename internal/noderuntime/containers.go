package noderuntime

import (
	"context"

	"github.com/pelletier/go-toml/v2"
)

// inspectCRIO reads the configuration of CRI-O.
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
