package config

import (
	"fmt"
	"strings"
)

// A given is a setting's text and the place that it came from.
type given struct{ text, where string }

// A layer is the settings that one place gave, by name.
type layer map[string]given

// Load puts a Config together from the defaults, the YAML file at path (""
// for none), the environment and the flags that were given, each winning over
// the one before it, and validates it. An error names the place it came from:
// a file's line, a variable or a flag.
func Load(path string, getenv func(string) string, flags map[string]string) (Config, error) {
	file, err := readLayer(path)
	if err != nil {
		return Config{}, err
	}
	env, flag := layer{}, layer{}
	for _, s := range Settings() {
		if v := getenv(s.Env()); v != "" {
			env[s.Name] = given{v, s.Env()}
		}
		if v, ok := flags[s.Name]; ok {
			flag[s.Name] = given{v, "--" + s.Name}
		}
	}
	c := Default()
	for _, l := range []layer{file, env, flag} {
		if err := c.apply(l); err != nil {
			return Config{}, err
		}
	}
	return c, c.Validate()
}

// apply sets the values of a layer. None may be empty: a script whose variable is
// not set would else start a root instead of a connected registry, or one without
// TLS. The connection string and the file that holds it are two forms of one
// setting, so that giving one takes the other back.
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
			return fmt.Errorf("%s is empty: give it a value, or leave it out", g.where)
		}
		if err := s.set(g.text); err != nil {
			return fmt.Errorf("%s: %w", g.where, err)
		}
	}
	return nil
}
