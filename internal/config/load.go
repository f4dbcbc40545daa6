package config

import (
	"fmt"
	"maps"
	"strings"
)

// A given is the text of a setting, and the place that gave it.
type given struct{ text, where string }

// A layer is the settings from one place, by name.
type layer map[string]given

// Load returns a Config from the defaults, the variables of the reference, the YAML file at
// path ("" is none), the environment and the flags, and validates it. Later places take
// precedence. An error names the place of the mistake: a line of the file, a variable or a
// flag. lookup returns a variable of the environment, as [os.LookupEnv] does.
func Load(
	path string, lookup func(name string) (value string, set bool), flags map[string]string,
) (Config, error) {
	file, err := readLayer(path)
	if err != nil {
		return Config{}, err
	}
	defaults, env, flag := layer{}, layer{}, layer{}
	for _, s := range Settings() {
		if v, ok := lookup(s.DefaultEnv()); ok {
			defaults[s.Name] = given{v, s.DefaultEnv()}
		}
		if v, ok := lookup(s.Env()); ok {
			env[s.Name] = given{v, s.Env()}
		}
		if v, ok := flags[s.Name]; ok {
			flag[s.Name] = given{v, "--" + s.Name}
		}
	}
	own := layer{} // what the operator set
	for _, l := range []layer{file, env, flag} {
		maps.Copy(own, l)
	}
	reference, err := referenceLayer(lookup, own)
	if err != nil {
		return Config{}, err
	}
	c := Default()
	for _, l := range []layer{defaults, reference, file, env, flag} {
		if err := c.apply(l); err != nil {
			return Config{}, err
		}
	}
	c.ReferenceVariables = reference.variables(own)
	return c, c.Validate()
}

// WithBlobs returns c with its blobs elsewhere, as flags say, by the names of settings. Without the setting
// blobs, they are files in the data directory. An error names a flag with "to" in the place of "blobs".
func (c Config) WithBlobs(flags map[string]string) (Config, error) {
	c.Blobs, c.BlobsEndpoint, c.BlobsRegion, c.BlobsAddressing = "", "", "", ""
	c.BlobsCredentialsFile, c.BlobsEncryption, c.BlobsCA, c.BlobRedirect = "", "", "", ""
	l := layer{}
	for name, text := range flags {
		l[name] = given{text, "--to" + strings.TrimPrefix(name, "blobs")}
	}
	if err := c.apply(l); err != nil {
		return Config{}, err
	}
	return c, c.Validate()
}

// apply sets the values of a layer. No value may be empty: otherwise, a script with an unset
// variable would start a root instead of a connected registry, or an instance without TLS.
// The connection string and its file are two forms of one setting, so each replaces the
// other.
func (c *Config) apply(l layer) error {
	_, direct := l["connection-string"]
	_, file := l["connection-string-file"]
	if direct || file {
		c.ConnectionString, c.ConnectionStringFile = "", ""
	}
	for _, s := range c.settings() {
		g, ok := l[s.Name]
		if !ok {
			continue
		}
		if strings.TrimSpace(g.text) == "" {
			return emptyError(g.where)
		}
		if err := s.set(g.text); err != nil {
			return fmt.Errorf("%s: %w", g.where, err)
		}
	}
	return nil
}

func emptyError(where string) error {
	return fmt.Errorf("%s is empty: give it a value, or leave it out", where)
}
