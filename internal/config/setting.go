package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Setting describes a field of [Config] for people. Its environment variable is FERRY_ and
// the name in capitals; its key in the file is the name.
type Setting struct {
	Name    string // of the flag, without its dashes
	Value   string // the kind of value, for help, such as DIR
	Default string // in the form in which a person would write it
	Help    string
	set     func(text string) error
}

// Env returns the name of the setting's environment variable.
func (s Setting) Env() string { return "FERRY_" + s.variable() }

// DefaultEnv returns the name of the variable with which an image sets another default. It
// gives way to every other place.
func (s Setting) DefaultEnv() string { return "FERRY_DEFAULT_" + s.variable() }

func (s Setting) variable() string { return strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_")) }

// Settings returns every setting, in the order in which help shows them.
func Settings() []Setting {
	c := Default()
	return c.settings()
}

// settings returns the settings. Their values are those of c, and setting one changes c.
func (c *Config) settings() []Setting {
	return []Setting{
		{"data-dir", "DIR", c.DataDir, "directory for the data of this instance", text(&c.DataDir)},
		{"listen", "ADDR", c.Listen, "host:port to serve at; port 0 is any free port", text(&c.Listen)},
		{"database", "URL", c.Database, "postgres://... or sqlite:PATH, instead of SQLite in the data directory",
			text(&c.Database)},
		{"blobs", "URL", c.Blobs,
			"s3://BUCKET/PREFIX: keep blobs in this bucket of an S3-compatible object store, instead of the data " +
				"directory", text(&c.Blobs)},
		{"blobs-endpoint", "URL", c.BlobsEndpoint,
			"address of the object store, such as https://s3.example:9000; the default is Amazon S3",
			text(&c.BlobsEndpoint)},
		{"blobs-region", "REGION", c.BlobsRegion, "region of the bucket; the default is the one that the store names",
			text(&c.BlobsRegion)},
		{"blobs-addressing", "WHERE", c.BlobsAddressing,
			"where a URL has the bucket: path or host; the default is what the store usually wants",
			text(&c.BlobsAddressing)},
		{"blobs-credentials-file", "FILE", c.BlobsCredentialsFile,
			"file with the credentials for the object store, as Amazon's tools write it; the default is the " +
				"variables AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, or the role of the machine",
			text(&c.BlobsCredentialsFile)},
		{"blobs-encryption", "HOW", c.BlobsEncryption,
			"encryption that the object store is asked for: s3, kms or kms:KEY; the default is the bucket's",
			text(&c.BlobsEncryption)},
		{"blobs-ca", "FILE", c.BlobsCA,
			"PEM file with the CA of the object store, beside those that this machine trusts", text(&c.BlobsCA)},
		{"blob-redirect", "LIST", c.BlobRedirect,
			"networks, such as 10.0.0.0/8, whose clients and children get a link to the object store for each blob, " +
				"and fetch it there", text(&c.BlobRedirect)},
		{"database-readers", "NUMBER", strconv.Itoa(c.DatabaseReaders),
			"the largest number of connections to PostgreSQL for reads", poolSize(&c.DatabaseReaders)},
		{"database-writers", "NUMBER", strconv.Itoa(c.DatabaseWriters),
			"the largest number of connections to PostgreSQL for writes, which are written one after another: two " +
				"are enough", poolSize(&c.DatabaseWriters)},
		{"database-timeout", "DURATION", c.DatabaseTimeout.String(),
			"how long PostgreSQL may take for one statement of a request before clients get 503, such as 5s",
			duration(&c.DatabaseTimeout)},
		{"database-wait", "DURATION", c.DatabaseWait.String(),
			"how long a start tries to connect to PostgreSQL, such as 5m; 0s is once", duration(&c.DatabaseWait)},
		{"cluster-secret-file", "FILE", c.ClusterSecretFile,
			"file with a random secret of 32 bytes or more, the same at all processes of one root, from which " +
				"their keys follow", text(&c.ClusterSecretFile)},
		{"tls", "MODE", c.TLS,
			"off, files (with tls-cert and tls-key, and then the default), own-ca: a certificate of a CA that " +
				"the instance makes and renews, and that clients get from /ca.crt; or acme: certificates from an " +
				"ACME server, whose terms you accept with this", text(&c.TLS)},
		{"tls-names", "LIST", c.TLSNames,
			"names and addresses in the certificate of own-ca, such as registry.example,10.1.1.1, instead of " +
				"those that the instance finds; or the names for acme", text(&c.TLSNames)},
		{"acme-email", "ADDRESS", c.ACMEEmail, "where the ACME server may send warnings", text(&c.ACMEEmail)},
		{"acme-directory", "URL", c.ACMEDirectory, "directory of another ACME server than Let's Encrypt",
			text(&c.ACMEDirectory)},
		{"acme-ca", "FILE", c.ACMECA, "PEM file with the CA of the ACME server itself, if it is a private one",
			text(&c.ACMECA)},
		{"ca-config-map", "NAMESPACE/NAME", c.CAConfigMap,
			"ConfigMap of this Kubernetes cluster that gets the certificate of own-ca's CA, as ca.crt",
			text(&c.CAConfigMap)},
		{"pull-secrets", "LIST", c.PullSecrets,
			"pull secrets of this Kubernetes cluster, as NAMESPACE/NAME with commas, that get the login at the " +
				"parent and each new password of it, so that nodes can pull the image of Ferry there",
			text(&c.PullSecrets)},
		{"tls-cert", "FILE", c.TLSCert, "PEM file with the certificate and its chain; a changed file is read again",
			text(&c.TLSCert)},
		{"tls-key", "FILE", c.TLSKey, "PEM file with the certificate's key", text(&c.TLSKey)},
		{"connection-string", "STRING", c.ConnectionString,
			"run the connected registry that this string names; it has a password, so prefer a file",
			text(&c.ConnectionString)},
		{"connection-string-file", "FILE", c.ConnectionStringFile, "read the connection string from this file",
			text(&c.ConnectionStringFile)},
		{"parent-endpoint", "HOST", c.ParentEndpoint,
			"host, or host:port, of the parent, instead of that in the connection string", text(&c.ParentEndpoint)},
		{"announce-endpoint", "HOST", c.AnnounceEndpoint,
			"host, or host:port, at which children find this instance if its address does not answer any more: " +
				"announce a new address before you move to it. Children believe it only over TLS",
			text(&c.AnnounceEndpoint)},
		{"parent-ca", "FILE", c.ParentCA,
			"PEM file with the CA of the parent, such as its /ca.crt, beside those that this machine trusts",
			text(&c.ParentCA)},
		{"chunk-size", "SIZE", FormatSize(c.ChunkSize), "bytes in one range request of a sync, such as 512KiB or 1MiB",
			func(s string) (err error) {
				c.ChunkSize, err = ParseSize(s)
				return err
			}},
		{"spread", "DURATION", c.Spread,
			"time over which children spread their fetches after a change, such as 90s, so that they " +
				"do not all fetch at once; auto depends on their number; or off", text(&c.Spread)},
		{"scrub", "PERIOD", c.Scrub,
			"how often all stored content is read again to find damage, such as 30d; or off",
			text(&c.Scrub)},
		{"scrub-rate", "SIZE", FormatSize(c.ScrubRate),
			"the largest number of bytes that a scrub reads in a second, such as 4MiB",
			func(s string) (err error) {
				c.ScrubRate, err = ParseSize(s)
				return err
			}},
		{"scrub-window", "HOURS", c.ScrubWindow,
			"part of the day, in UTC, in which a scrub may read, such as 01:00-05:00; or any", text(&c.ScrubWindow)},
		{"external-url", "URL", c.ExternalURL,
			"address of this instance for clients and children, such as https://registry.example or " +
				"https://example.org/registry, if a proxy is in front of it", text(&c.ExternalURL)},
		{"path-prefix", "PATH", c.PathPrefix,
			"path below which a proxy sends requests, such as /registry; paths without it are served, too. " +
				"The default is the path of external-url", text(&c.PathPrefix)},
		{"limits", "LIST", c.Limits,
			"how many resources a root may have, where that differs from the default, as NAME=NUMBER, such as " +
				"tokens=50000,permissions=2000: connected-registries (10000), levels (16), client-tokens (1000), " +
				"notifications (100), scope-maps (20000), tokens (20000), permissions (500) and " +
				"gateway-permissions (4000)", text(&c.Limits)},
		{"metrics", "WHO", c.Metrics,
			"who may read /metrics: operators (with user and password), loopback (operators, and every user " +
				"of this machine) or anyone", text(&c.Metrics)},
		{"trusted-proxies", "LIST", c.TrustedProxies,
			"addresses and networks of proxies, such as 10.0.0.0/8,::1. They are trusted to name the sender " +
				"of a request in X-Forwarded-For or Forwarded, and the instance's address in X-Forwarded-Proto, " +
				"-Host and -Prefix", text(&c.TrustedProxies)},
		{"mirror-names", "LIST", c.MirrorNames,
			"repositories that answer pulls of other registries, as REGISTRY=PREFIX, such as " +
				"docker.io=hub,quay.io=mirror/quay", text(&c.MirrorNames)},
		{"mirror-default", "REGISTRY", c.MirrorDefault,
			"the registry whose repositories answer a pull of a repository that does not exist here, for Docker, " +
				"which does not say that it asks a mirror: docker.io", text(&c.MirrorDefault)},
		{"anonymous", "WHICH", c.Anonymous,
			"pulls without credentials: by-scope-map (from the networks that scope maps allow) or off",
			text(&c.Anonymous)},
		{"audit-retention", "PERIOD", c.AuditRetention,
			"how long entries of the audit log are kept, such as 400d, if there are not too many of them; or off: " +
				"until there are", text(&c.AuditRetention)},
		{"hook", "PROGRAM", c.Hook,
			"absolute path of a program to run, one at a time, when an image is complete here, failed here, or was " +
				"pulled first here: it gets the event as JSON on its standard input", text(&c.Hook)},
		{"hook-timeout", "DURATION", c.HookTimeout.String(),
			"how long the hook may run before it is killed, such as 1m",
			duration(&c.HookTimeout)},
		{"webhook", "URL", c.Webhook,
			"address to which the same events are sent, as signed CloudEvents", text(&c.Webhook)},
		{"webhook-secret-file", "FILE", c.WebhookSecretFile,
			"file with the secret that signs them: whsec_ and the base64 of 24 to 64 bytes",
			text(&c.WebhookSecretFile)},
		{"webhook-ca", "FILE", c.WebhookCA,
			"PEM file with the CA of that address, beside those that this machine trusts", text(&c.WebhookCA)},
		{"oidc-issuer", "URL", c.OIDCIssuer,
			"OpenID Connect provider that logs people in as operators, such as https://login.example",
			text(&c.OIDCIssuer)},
		{"oidc-client-id", "ID", c.OIDCClientID, "client of the provider for browsers", text(&c.OIDCClientID)},
		{"oidc-client-secret-file", "FILE", c.OIDCClientSecretFile,
			"file with the secret of that client, if it has one",
			text(&c.OIDCClientSecretFile)},
		{"oidc-cli-client-id", "ID", c.OIDCCLIClientID,
			"client of the provider for ferry login --oidc, if it is another one", text(&c.OIDCCLIClientID)},
		{"oidc-cli-client-secret-file", "FILE", c.OIDCCLISecretFile,
			"file with the secret of that client, which everybody may read at this instance",
			text(&c.OIDCCLISecretFile)},
		{"oidc-groups", "RULES", c.OIDCGroups,
			"who may do what: GROUP=admin or GROUP=reader, perhaps with limits, as in " +
				"ops=admin;ships=reader:nav/*. The first group that fits counts",
			text(&c.OIDCGroups)},
		{"oidc-groups-claim", "CLAIM", c.OIDCGroupsClaim, "claim of the provider with the groups of a person",
			text(&c.OIDCGroupsClaim)},
		{"oidc-ca", "FILE", c.OIDCCA,
			"PEM file with the CA of the provider, beside those that this machine trusts", text(&c.OIDCCA)},
		{"max-connections", "NUMBER", connectionsText(c.MaxConnections),
			"the largest number of connections at a time; one address may have half of them. auto is 16384 " +
				"for a root, and 512 for a connected registry", func(s string) (err error) {
				c.MaxConnections, err = parseConnections(s)
				return err
			}},
		{"drain-delay", "DURATION", c.DrainDelay.String(),
			"how long an instance still accepts connections after it was told to stop, with 503 at /health/ready " +
				"so that a load balancer notices, such as 5s", duration(&c.DrainDelay)},
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

// text returns a function that sets a field to any text.
func text(field *string) func(string) error {
	return func(s string) error {
		*field = s
		return nil
	}
}

// duration returns a function that sets a field to a duration.
func duration(field *time.Duration) func(string) error {
	return func(s string) (err error) {
		*field, err = time.ParseDuration(s)
		return err
	}
}

// poolSize returns a function that sets a field to a number of connections to the database.
func poolSize(field *int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxPool {
			return fmt.Errorf("%.80q: want a number from 1 to %d", s, maxPool)
		}
		*field = n
		return nil
	}
}
