package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Limits on the size of one range request of a sync, in bytes. Smaller requests would have
// more overhead than content.
const (
	MinChunkSize = 64 << 10
	MaxChunkSize = 1 << 30
)

// maxDrainDelay is the longest time that a stop may be delayed.
const maxDrainDelay = 10 * time.Minute

// maxHookTimeout is the longest time that a hook may run.
const maxHookTimeout = time.Hour

// Limits on the connections to PostgreSQL, and on how long it may take.
const (
	maxPool            = 1000
	minDatabaseTimeout = time.Second
	maxDatabaseTimeout = 10 * time.Minute
	maxDatabaseWait    = 24 * time.Hour
)

// databases matches the URL of a database.
var databases = regexp.MustCompile(`^(sqlite:|postgres(ql)?://)`)

// objectName matches the namespace and the name of an object in Kubernetes.
var objectName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// Validate returns an error about the first mistake in c, with the name of the setting. It
// opens no file and no connection.
func (c Config) Validate() error {
	switch {
	case c.DataDir == "":
		return errors.New("data-dir is empty: want the directory for the data of this instance")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("tls-cert and tls-key belong together: only one of them is given")
	case c.TLS != "" && !slices.Contains([]string{TLSOff, TLSFiles, TLSOwnCA, TLSACME}, c.TLS):
		return fmt.Errorf("tls %.80q: want off, files, own-ca or acme", c.TLS)
	case c.TLSMode() == TLSFiles && c.TLSCert == "":
		return errors.New("tls is files: want tls-cert and tls-key, too")
	case c.TLSMode() != TLSFiles && c.TLSCert != "":
		return fmt.Errorf("tls-cert is for tls files, and tls is %s: want one of them", c.TLS)
	case c.TLSMode() != TLSOwnCA && c.TLSMode() != TLSACME && c.TLSNames != "":
		return errors.New("tls-names is for a certificate that the instance makes: want tls own-ca or acme, too")
	case c.TLSMode() == TLSACME && c.TLSNames == "":
		return errors.New("tls is acme: want tls-names, too, with the names that lead to this instance")
	case c.TLSMode() != TLSACME && (c.ACMEEmail != "" || c.ACMECA != "" || c.ACMEDirectory != ""):
		return errors.New("acme-email, acme-directory and acme-ca are for an ACME server: want tls acme, too")
	case c.TLSMode() != TLSOwnCA && c.CAConfigMap != "":
		return errors.New("ca-config-map is for the instance's own CA: want tls own-ca, too")
	case c.CAConfigMap != "" && !objectName.MatchString(c.CAConfigMap):
		return fmt.Errorf("ca-config-map %.80q: want NAMESPACE/NAME", c.CAConfigMap)
	case c.PullSecrets != "" && slices.ContainsFunc(strings.Split(c.PullSecrets, ","), func(s string) bool {
		return !objectName.MatchString(strings.TrimSpace(s))
	}):
		return fmt.Errorf("pull-secrets %.80q: want NAMESPACE/NAME, or several with commas", c.PullSecrets)
	case c.ConnectionString != "" && c.ConnectionStringFile != "":
		return errors.New("connection-string and connection-string-file are both given: want one of them")
	case c.ChunkSize < MinChunkSize || c.ChunkSize > MaxChunkSize:
		return fmt.Errorf("chunk-size %s: want %s to %s",
			FormatSize(c.ChunkSize), FormatSize(MinChunkSize), FormatSize(MaxChunkSize))
	case c.DrainDelay < 0 || c.DrainDelay > maxDrainDelay:
		return fmt.Errorf("drain-delay %v: want 0s to %v", c.DrainDelay, maxDrainDelay)
	case c.HookTimeout < time.Second || c.HookTimeout > maxHookTimeout:
		return fmt.Errorf("hook-timeout %v: want 1s to %v", c.HookTimeout, maxHookTimeout)
	case c.Hook != "" && !filepath.IsAbs(c.Hook):
		return fmt.Errorf("hook %.80q: want an absolute path", c.Hook)
	case (c.Webhook == "") != (c.WebhookSecretFile == ""):
		return errors.New("webhook and webhook-secret-file belong together: only one of them is given")
	case c.LogFormat != "text" && c.LogFormat != "json":
		return fmt.Errorf("log-format %.80q: want text or json", c.LogFormat)
	case c.Metrics != MetricsOperators && c.Metrics != MetricsLoopback && c.Metrics != MetricsAnyone:
		return fmt.Errorf("metrics %.80q: want operators, loopback or anyone", c.Metrics)
	case c.Anonymous != AnonymousByScopeMap && c.Anonymous != AnonymousOff:
		return fmt.Errorf("anonymous %.80q: want by-scope-map or off", c.Anonymous)
	case c.Blobs == "" && c.BlobsEndpoint+c.BlobsRegion+c.BlobsAddressing+c.BlobsCredentialsFile+c.BlobsEncryption+
		c.BlobsCA+c.BlobRedirect != "":
		return errors.New("blobs-endpoint, -region, -addressing, -credentials-file, -encryption and -ca, and " +
			"blob-redirect, are for an object store: want blobs s3://BUCKET/PREFIX, too")
	case c.Blobs != "" && !strings.HasPrefix(c.Blobs, "s3://"):
		return fmt.Errorf("blobs %.80q: want s3://BUCKET/PREFIX", c.Blobs)
	case c.BlobsAddressing != "" && c.BlobsAddressing != "path" && c.BlobsAddressing != "host":
		return fmt.Errorf("blobs-addressing %.80q: want path or host", c.BlobsAddressing)
	case c.BlobsCA != "" && !strings.HasPrefix(c.BlobsEndpoint, "https://"):
		return errors.New("blobs-ca is for an endpoint with https: want blobs-endpoint https://HOST, too")
	case c.Database != "" && !databases.MatchString(c.Database):
		return errors.New("database: want postgres://user@host/name or sqlite:PATH")
	case c.DatabaseTimeout < minDatabaseTimeout || c.DatabaseTimeout > maxDatabaseTimeout:
		return fmt.Errorf("database-timeout %v: want %v to %v", c.DatabaseTimeout, minDatabaseTimeout,
			maxDatabaseTimeout)
	case c.DatabaseWait < 0 || c.DatabaseWait > maxDatabaseWait:
		return fmt.Errorf("database-wait %v: want 0s to %v", c.DatabaseWait, maxDatabaseWait)
	}
	if _, err := ParseSpread(c.Spread); err != nil {
		return fmt.Errorf("spread %.80q: %w", c.Spread, err)
	}
	if _, err := ParseScrub(c.Scrub); err != nil {
		return fmt.Errorf("scrub %.80q: %w", c.Scrub, err)
	}
	if _, err := ParseRetention(c.AuditRetention); err != nil {
		return fmt.Errorf("audit-retention %.80q: %w", c.AuditRetention, err)
	}
	if _, err := ParseHours(c.ScrubWindow); err != nil {
		return fmt.Errorf("scrub-window %.80q: %w", c.ScrubWindow, err)
	}
	if c.ScrubRate < minScrubRate {
		return fmt.Errorf("scrub-rate %s: want at least %s", FormatSize(c.ScrubRate), FormatSize(minScrubRate))
	}
	if _, err := ParseProxies(c.TrustedProxies); err != nil {
		return fmt.Errorf("trusted-proxies %.80q: %w", c.TrustedProxies, err)
	}
	if _, err := ParseProxies(c.BlobRedirect); err != nil {
		return fmt.Errorf("blob-redirect %.80q: %w", c.BlobRedirect, err)
	}
	names, err := ParseNames(c.TLSNames)
	if err != nil {
		return fmt.Errorf("tls-names: %w", err)
	}
	if c.TLSMode() == TLSACME {
		if err := checkACME(c, names); err != nil {
			return err
		}
	}
	if c.PathPrefix != "" && !IsPathPrefix(c.PathPrefix) {
		return fmt.Errorf("path-prefix %.80q: want a path such as /registry, without a slash at its end", c.PathPrefix)
	}
	if err := checkListen(c.Listen); err != nil {
		return err
	}
	return checkExternalURL(c.ExternalURL)
}

func checkListen(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen %.80q: want host:port, such as 127.0.0.1:5000 or :5000", addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen %.80q: port %.80q is not a number from 0 to 65535", addr, port)
	}
	return nil
}

// checkACME refuses names that no ACME server accepts for a handshake, which proves that a
// name leads here.
func checkACME(c Config, names []string) error {
	for _, name := range names {
		if net.ParseIP(name) != nil || strings.HasPrefix(name, "*") || !strings.Contains(name, ".") {
			return fmt.Errorf("tls-names: %s: an ACME server needs names such as registry.example", name)
		}
	}
	if c.ACMEDirectory == "" {
		return nil
	}
	if u, err := url.Parse(c.ACMEDirectory); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("acme-directory %.80q: want https://host/path",
			c.ACMEDirectory[strings.LastIndex(c.ACMEDirectory, "@")+1:]) // without a password
	}
	return nil
}

// pathPrefix matches a path of segments that no part of the program and no proxy changes.
var pathPrefix = regexp.MustCompile(`^(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])+$`)

// IsPathPrefix reports whether text can be a path prefix, such as /registry.
func IsPathPrefix(text string) bool { return len(text) <= 256 && pathPrefix.MatchString(text) }

// checkExternalURL accepts a URL with a scheme, a host and perhaps a path.
func checkExternalURL(s string) error {
	if s == "" {
		return nil
	}
	u, err := url.Parse(s)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil ||
		u.Path != "" && u.Path != "/" && !IsPathPrefix(strings.TrimSuffix(u.Path, "/")) || u.RawQuery != "" ||
		u.Fragment != "" {
		return fmt.Errorf("external-url %.80q: want http://host[:port] or https://host[:port], and perhaps a path",
			s[strings.LastIndex(s, "@")+1:]) // without a password
	}
	return nil
}

// Connection returns the connection string, which it reads from the file if there is one. It
// returns "" for a root registry.
func (c Config) Connection() (string, error) {
	if c.ConnectionStringFile == "" {
		return c.ConnectionString, nil
	}
	data, err := readFile(c.ConnectionStringFile)
	if err != nil {
		return "", fmt.Errorf("read connection string: %w", err)
	}
	if strings.TrimSpace(string(data)) == "" {
		return "", fmt.Errorf("read connection string: %s: the file is empty", c.ConnectionStringFile)
	}
	return string(data), nil
}
