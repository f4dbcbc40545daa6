// Package config holds the settings of `ferry serve`: one struct, whose
// fields each have a flag, an environment variable and a key in a YAML file.
// A flag wins over the environment, which wins over the file, which wins over
// the default.
package config

import (
	"log/slog"
	"path/filepath"
)

// A Config is the settings of one instance. [Default] is where to begin; the
// zero value is not valid.
type Config struct {
	DataDir              string // where blobs, the database and the instance's secrets are
	Listen               string // host:port; port 0 is any that is free
	Database             string // "" is SQLite in DataDir; else postgres://... or sqlite:PATH
	TLSCert              string // PEM files; both or neither
	TLSKey               string
	ConnectionString     string // at most one of these two; either makes a connected registry
	ConnectionStringFile string
	ChunkSize            int64  // bytes in one range request of a sync
	Spread               string // over how long connected registries spread what they fetch; see [ParseSpread]
	Scrub                string // how often everything that is stored is read again; see [ParseScrub]
	ScrubRate            int64  // bytes that this reads in a second
	ScrubWindow          string // when in a day; see [ParseHours]
	ExternalURL          string // how others reach this instance; "" is the address that a caller used
	Metrics              string // who may read /metrics: one of the constants below
	TrustedProxies       string // addresses and networks whose X-Forwarded-For is believed; see [ParseProxies]
	MaxConnections       int    // that are open at a time; 0 is as many as suit the instance
	LogLevel             slog.Level
	LogFormat            string // text or json
}

// The values of [Config.Metrics]. Every user of the machine can connect to loopback, and so
// can a proxy on it, for any of its clients.
const (
	MetricsOperators = "operators" // with name and password
	MetricsLoopback  = "loopback"  // also requests from this machine, unless a proxy says that they are for others
	MetricsAnyone    = "anyone"
)

// Default returns the settings of an instance without any of its own.
func Default() Config {
	return Config{
		DataDir:     "ferry-data",
		Listen:      "127.0.0.1:5000",
		ChunkSize:   1 << 20,
		Spread:      SpreadAuto,
		Scrub:       "30d",
		ScrubRate:   4 << 20,
		ScrubWindow: scrubAny,
		Metrics:     MetricsOperators,
		LogLevel:    slog.LevelInfo,
		LogFormat:   "text",
	}
}

// LocalSocket returns the path of the socket at which an instance reports its status without
// a login. Only the owner of the data directory may open it.
func LocalSocket(dataDir string) string { return filepath.Join(dataDir, "ferry.sock") }
