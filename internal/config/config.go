// Package config has the settings of `ferry serve`. Each has a flag, an environment
// variable and a key in a YAML file. A flag takes precedence over the environment, the
// environment over the file, and the file over the default. Begin with [Config] and [Load].
package config

import (
	"log/slog"
	"path/filepath"
	"time"
)

// A Config is the settings of one instance. [Default] returns a valid one; the zero value is
// not valid.
type Config struct {
	DataDir              string // has the blobs, the database and the instance's secrets
	Listen               string // host:port; port 0 is any free port
	Database             string // "" is SQLite in DataDir; else postgres://... or sqlite:PATH
	Blobs                string // s3://BUCKET/PREFIX; "" is files in DataDir
	BlobsEndpoint        string // URL of the object store; "" is Amazon's
	BlobsRegion          string // "" is the one that the store names
	BlobsAddressing      string // path or host: where a URL has the bucket; "" is what the store usually wants
	BlobsCredentialsFile string // "" is the environment, the usual file, or the machine's role
	BlobsEncryption      string // s3, kms or kms:KEY; "" is the bucket's default
	BlobRedirect         string // networks whose clients fetch blobs from the object store; see [ParseProxies]
	BlobsCA              string // PEM file with the CA of the object store; "" is the machine's authorities alone
	ClusterSecretFile    string // has a secret that all processes of a root share
	DatabaseReaders      int    // connections to PostgreSQL for reads, and for writes
	DatabaseWriters      int
	DatabaseTimeout      time.Duration // of a statement in PostgreSQL
	DatabaseWait         time.Duration // how long a start tries to connect to PostgreSQL
	TLS                  string        // one of the constants below; "" is what the others say; see [Config.TLSMode]
	TLSCert              string        // PEM files; both or neither
	TLSKey               string
	TLSNames             string // of certificates that the instance makes or requests; see [ParseNames]
	ACMEEmail            string // for the account at the ACME server
	ACMEDirectory        string // URL of the ACME server's directory; "" is Let's Encrypt's
	ACMECA               string // PEM file with the CA of that server itself; "" is the machine's authorities
	CAConfigMap          string // NAMESPACE/NAME of a ConfigMap in Kubernetes that gets the instance's CA
	PullSecrets          string // NAMESPACE/NAME of Secrets in Kubernetes that get the login at the parent, with commas
	ConnectionString     string // at most one of these two; either makes a connected registry
	ConnectionStringFile string
	ParentCA             string // PEM file with the CA of the parent; "" is the machine's authorities alone
	ParentEndpoint       string // host, or host:port, of the parent; "" is that of the connection string
	AnnounceEndpoint     string // another address of this instance, which its children are told; "" is none
	ChunkSize            int64  // bytes in one range request of a sync
	Spread               string // time over which children delay their fetches; see [ParseSpread]
	Scrub                string // how often all stored content is read again; see [ParseScrub]
	ScrubRate            int64  // bytes that a scrub reads in a second
	ScrubWindow          string // the part of the day for scrubs; see [ParseHours]
	ExternalURL          string // address of this instance for others; "" is the address that a client used
	Metrics              string // permission to read /metrics: one of the constants below
	PathPrefix           string // that proxies put before every path; "" is the path of ExternalURL
	TrustedProxies       string // addresses and networks whose X-Forwarded- headers are trusted; see [ParseProxies]
	Limits               string // how many resources a root may have; see control.ParseMaxima
	MirrorNames          string // repositories that stand for other registries; see registry.ParseMirrorNames
	MirrorDefault        string // the registry that stands in for a repository that does not exist; "" is none
	Anonymous            string // pulls without credentials: one of the constants below
	AuditRetention       string // how long entries of the audit log are kept; see [ParseRetention]
	Hook                 string // absolute path of a program that runs for each event here; "" is none
	HookTimeout          time.Duration
	Webhook              string // URL that gets the events of this instance; "" is none
	WebhookSecretFile    string // has the secret that signs them
	OIDCIssuer           string // URL of the OpenID Connect provider that knows people; "" is none
	OIDCClientID         string
	OIDCClientSecretFile string // "" for a public client
	OIDCCLIClientID      string // of the command line; "" is OIDCClientID
	OIDCCLISecretFile    string // has a secret that everybody may know
	OIDCGroups           string // which people have which rights; see oidc.ParseRules
	OIDCGroupsClaim      string
	OIDCCA               string // PEM file with the CA of the provider; "" is the machine's authorities alone
	WebhookCA            string // PEM file with the CA of that URL; "" is the machine's authorities alone
	MaxConnections       int    // open at a time; 0 is the default for the kind of instance
	LogLevel             slog.Level
	LogFormat            string // text or json

	// DrainDelay is how long an instance still accepts connections after it was told to stop.
	// /health/ready answers 503 during that time.
	DrainDelay time.Duration

	// ReferenceVariables are the names of the reference's variables that gave a setting,
	// separated by commas.
	ReferenceVariables string
}

// The values of [Config.TLS].
const (
	TLSOff   = "off"
	TLSFiles = "files"  // a certificate that somebody else renews
	TLSOwnCA = "own-ca" // a certificate of a CA that the instance keeps
	TLSACME  = "acme"   // certificates from an ACME server, such as Let's Encrypt
)

// TLSMode returns the origin of the instance's certificate.
func (c Config) TLSMode() string {
	switch {
	case c.TLS != "":
		return c.TLS
	case c.TLSCert != "":
		return TLSFiles
	}
	return TLSOff
}

// The values of [Config.Metrics]. Every user of the machine can connect over loopback, and
// so can a proxy on the machine, for any of its clients.
const (
	MetricsOperators = "operators" // with name and password
	MetricsLoopback  = "loopback"  // also requests from this machine, unless a proxy says that they are for others
	MetricsAnyone    = "anyone"
)

// The values of [Config.Anonymous].
const (
	AnonymousByScopeMap = "by-scope-map" // from the networks that scope maps allow
	AnonymousOff        = "off"
)

// Default returns the default settings.
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
		Anonymous:   AnonymousByScopeMap,
		HookTimeout: time.Minute,

		DatabaseReaders: 16,
		DatabaseWriters: 2,
		DatabaseTimeout: 10 * time.Second,
		DatabaseWait:    time.Minute,

		OIDCGroupsClaim: "groups",

		AuditRetention: "400d",
		LogLevel:       slog.LevelInfo,
		LogFormat:      "text",
	}
}

// LocalSocket returns the path of the socket through which an instance reports its status
// without a login. Only the owner of the data directory may open it.
func LocalSocket(dataDir string) string { return filepath.Join(dataDir, "ferry.sock") }
