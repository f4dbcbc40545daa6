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
	set     func(text string) error
}

// Env returns the name of the setting's environment variable.
func (s Setting) Env() string {
	return "FERRY_" + strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
}

// Settings returns every setting, in the order in which help shows them.
func Settings() []Setting {
	c := Default()
	return c.settings()
}

// settings returns the settings with their values in c, which they set.
func (c *Config) settings() []Setting {
	return []Setting{
		{"data-dir", "DIR", c.DataDir, "directory that holds everything this instance keeps", text(&c.DataDir)},
		{"listen", "ADDR", c.Listen, "host:port to serve at; port 0 is any that is free", text(&c.Listen)},
		{"database", "URL", c.Database, "postgres://... or sqlite:PATH, instead of SQLite in the data directory",
			text(&c.Database)},
		{"tls-cert", "FILE", c.TLSCert, "PEM file with the certificate and its chain; read again when it changes",
			text(&c.TLSCert)},
		{"tls-key", "FILE", c.TLSKey, "PEM file with the certificate's key", text(&c.TLSKey)},
		{"connection-string", "STRING", c.ConnectionString, "be the connected registry that this string names",
			text(&c.ConnectionString)},
		{"connection-string-file", "FILE", c.ConnectionStringFile, "read the connection string from this file",
			text(&c.ConnectionStringFile)},
		{"chunk-size", "SIZE", FormatSize(c.ChunkSize), "bytes in one range request of a sync, as 512KiB or 1MiB",
			func(s string) (err error) {
				c.ChunkSize, err = ParseSize(s)
				return err
			}},
		{"spread", "DURATION", c.Spread,
			"over how long the connected registries of this instance spread what they fetch " +
				"after a change, such as 90s; auto or off", text(&c.Spread)},
		{"scrub", "PERIOD", c.Scrub,
			"how often everything that is stored is read again, so that damage is found; such as 30d, or off",
			text(&c.Scrub)},
		{"scrub-rate", "SIZE", FormatSize(c.ScrubRate), "how many bytes a scrub reads in a second at most, as 4MiB",
			func(s string) (err error) {
				c.ScrubRate, err = ParseSize(s)
				return err
			}},
		{"scrub-window", "HOURS", c.ScrubWindow, "when in a day, in UTC, a scrub may read, such as 01:00-05:00; or any",
			text(&c.ScrubWindow)},
		{"external-url", "URL", c.ExternalURL, "the address at which connected registries reach this instance",
			text(&c.ExternalURL)},
		{"metrics", "WHO", c.Metrics, "who may read /metrics: operators, by name and password; loopback, which is " +
			"everybody on this machine, too; or anyone", text(&c.Metrics)},
		{"trusted-proxies", "LIST", c.TrustedProxies,
			"addresses and networks of proxies, such as 10.0.0.0/8,::1, that say in " +
				"X-Forwarded-For or Forwarded who sent a request", text(&c.TrustedProxies)},
		{"max-connections", "NUMBER", connectionsText(c.MaxConnections),
			"connections that are open at a time, and half as " +
				"many from one address; auto is 16384, and 512 for a connected registry", func(s string) (err error) {
				c.MaxConnections, err = parseConnections(s)
				return err
			}},
		{"log-level", "LEVEL", strings.ToLower(c.LogLevel.String()), "debug, info, warn or error",
			func(s string) error {
				if err := c.LogLevel.UnmarshalText([]byte(s)); err != nil {
					return fmt.Errorf("%.80q is not a log level: want debug, info, warn or error", s)
				}
				return nil
			}},
		{"log-format", "FORMAT", c.LogFormat, "text or json", text(&c.LogFormat)},
	}
}

// text sets a field that takes any text.
func text(field *string) func(string) error {
	return func(s string) error {
		*field = s
		return nil
	}
}
