package config

import (
	"fmt"
	"strings"
)

// A Setting is one field of a [Config] as a person names it. Its environment
// variable is FERRY_ and the name in capitals; its key in the file is the name.
type Setting struct {
	Name    string // of the flag, without its dashes
	Value   string // what the flag takes, for its help: DIR, URL
	Default string // as a person would write it
	Help    string
	set     func(c *Config, text string) error
}

// Env returns the name of the setting's environment variable.
func (s Setting) Env() string {
	return "FERRY_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Settings returns every setting, in the order in which help shows them.
func Settings() []Setting {
	d := Default()
	return []Setting{
		{"data-dir", "DIR", d.DataDir, "directory that holds everything this instance keeps",
			text(func(c *Config) *string { return &c.DataDir })},
		{"listen", "ADDR", d.Listen, "host:port to serve at; port 0 is any that is free",
			text(func(c *Config) *string { return &c.Listen })},
		{"database", "URL", d.Database, "postgres://... or sqlite:PATH, instead of SQLite in the data directory",
			text(func(c *Config) *string { return &c.Database })},
		{"tls-cert", "FILE", d.TLSCert, "PEM file with the certificate and its chain; read again when it changes",
			text(func(c *Config) *string { return &c.TLSCert })},
		{"tls-key", "FILE", d.TLSKey, "PEM file with the certificate's key",
			text(func(c *Config) *string { return &c.TLSKey })},
		{"connection-string", "STRING", "", "be the connected registry that this string names",
			text(func(c *Config) *string { return &c.ConnectionString })},
		{"connection-string-file", "FILE", "", "read the connection string from this file",
			text(func(c *Config) *string { return &c.ConnectionStringFile })},
		{"chunk-size", "SIZE", FormatSize(d.ChunkSize), "bytes in one range request of a sync, as 512KiB or 1MiB",
			func(c *Config, s string) (err error) {
				c.ChunkSize, err = ParseSize(s)
				return err
			}},
		{"spread", "DURATION", d.Spread, "over how long the connected registries of this instance spread what they fetch " +
			"after a change, such as 90s; auto or off",
			text(func(c *Config) *string { return &c.Spread })},
		{"external-url", "URL", d.ExternalURL, "the address at which connected registries reach this instance",
			text(func(c *Config) *string { return &c.ExternalURL })},
		{"log-level", "LEVEL", "info", "debug, info, warn or error",
			func(c *Config, s string) error {
				if err := c.LogLevel.UnmarshalText([]byte(s)); err != nil {
					return fmt.Errorf("%.80q is not a log level: want debug, info, warn or error", s)
				}
				return nil
			}},
		{"log-format", "FORMAT", d.LogFormat, "text or json",
			text(func(c *Config) *string { return &c.LogFormat })},
	}
}

// text makes a setting of a field that takes any text.
func text(field func(*Config) *string) func(*Config, string) error {
	return func(c *Config, s string) error {
		*field(c) = s
		return nil
	}
}
