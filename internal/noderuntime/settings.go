package noderuntime

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
)

// Settings say what to configure.
type Settings struct {
	// Endpoint is the URL of the registry: http://HOST:PORT, or https. It may have a path, if
	// the registry is behind a proxy; only containerd can use such a registry.
	Endpoint string
	// Hosts are further names, HOST or HOST:PORT, under which images of the registry are
	// pulled. The runtime connects to the endpoint for them.
	Hosts []string
	// Mirrors are other registries that the endpoint stands in for, such as docker.io.
	Mirrors []string
	// Prefixes are the repositories of the endpoint that stand for a mirrored registry, for
	// runtimes that do not say which registry they ask for: CRI-O and Podman. A registry
	// without a prefix has its repositories under their own names.
	Prefixes map[string]string
	// NoUpstream says that mirrored registries themselves are never asked.
	NoUpstream bool
	// CA is the certificates of authorities to trust, in PEM. Empty trusts the system's.
	CA []byte
	// Username and Password are sent with each request, if the runtime has a place for them
	// that it reads at each pull.
	Username, Password string
	// EditConfig allows changes of config.toml, which containerd reads only at its start.
	EditConfig bool
}

// AllRegistries is the mirrored registry that stands for every one without an entry of its own.
const AllRegistries = "*"

// Check returns an error if the settings make no sense together.
func (s *Settings) Check() error {
	u, err := url.Parse(s.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("the endpoint %q is not a URL such as https://edge.example:5000",
			s.Endpoint[strings.LastIndex(s.Endpoint, "@")+1:]) // without a password
	}
	if u.User != nil {
		return errors.New("the endpoint has a user's name: use --token and a file with its password")
	}
	if strings.Trim(u.Path, pathCharacters) != "" || u.RawQuery != "" || u.Fragment != "" {
		return fmt.Errorf("the endpoint %q has more than a host, a port and a path", s.Endpoint)
	}
	if err := checkHost(u.Host); err != nil {
		return fmt.Errorf("the endpoint %q: %w", s.Endpoint, err)
	}
	s.Endpoint = u.Scheme + "://" + u.Host + strings.TrimRight(u.Path, "/")
	for _, h := range s.Hosts {
		if err := checkHost(h); err != nil {
			return err
		}
	}
	for name, prefix := range s.Prefixes {
		if !slices.Contains(s.Mirrors, name) || strings.Trim(prefix, repositoryCharacters) != "" {
			return fmt.Errorf("%q is not the prefix of repositories, such as mirrors/hub", prefix)
		}
	}
	for _, h := range s.Mirrors {
		if h == AllRegistries {
			continue
		}
		if err := checkHost(h); err != nil {
			return err
		}
	}
	if len(s.CA) > 0 {
		if u.Scheme == "http" {
			return errors.New("an endpoint with http has no certificate: leave the authority out")
		}
		if err := checkAuthorities(s.CA); err != nil {
			return err
		}
	}
	if (s.Username == "") != (s.Password == "") {
		return errors.New("a password needs the name of its token, and a token needs its password")
	}
	if strings.ContainsAny(s.Username, ":\r\n") || strings.ContainsAny(s.Password, "\r\n") {
		return errors.New("the token's name or password has a character that it cannot have")
	}
	return nil
}

const pathCharacters = repositoryCharacters + "ABCDEFGHIJKLMNOPQRSTUVWXYZ~"

const repositoryCharacters = "abcdefghijklmnopqrstuvwxyz0123456789._-/"

// checkHost returns an error unless text is a host with or without a port. It becomes part of
// file names and of their content, so it has no other character.
func checkHost(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = strings.Trim(text, "[]"), ""
	}
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:"
	if strings.Trim(host, letters) != "" || strings.Trim(host, ".") == "" || strings.HasPrefix(host, "-") ||
		strings.Trim(port, "0123456789") != "" || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return fmt.Errorf("%q is not a host such as edge.example:5000", text)
	}
	return nil
}

// checkAuthorities returns an error unless text is certificates in PEM, and nothing else.
func checkAuthorities(text []byte) error {
	count := 0
	for rest := text; ; count++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return fmt.Errorf("the authority's file has a %s: want certificates only", strings.ToLower(block.Type))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("read the authority's certificate: %w", err)
		}
	}
	if count == 0 {
		return errors.New("the authority's file has no certificate in PEM")
	}
	return nil
}

// own returns the names of the registry itself. The default port may be in the name of an
// image or not.
func (s *Settings) own() []string {
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	port := ":443"
	if s.plainHTTP() {
		port = ":80"
	}
	add(s.host())
	if host, ok := strings.CutSuffix(s.host(), port); ok {
		add(host)
	} else if _, _, err := net.SplitHostPort(s.host()); err != nil {
		add(s.host() + port)
	}
	for _, h := range s.Hosts {
		add(h)
	}
	return names
}

// registries returns all names that are configured.
func (s *Settings) registries() []string { return append(s.own(), s.Mirrors...) }

// host returns the endpoint's host and port, as in the names of images.
func (s *Settings) host() string {
	_, host, _ := strings.Cut(s.Endpoint, "://")
	host, _, _ = strings.Cut(host, "/")
	return host
}

// hasPath reports whether the endpoint has a path.
func (s *Settings) hasPath() bool { return strings.Count(s.Endpoint, "/") > 2 }

func (s *Settings) plainHTTP() bool { return strings.HasPrefix(s.Endpoint, "http://") }

// caName is the name of the authority's file. It has its content in it, so that one that
// another file names never changes.
func (s *Settings) caName() string {
	if len(s.CA) == 0 {
		return ""
	}
	return "ferry-" + digestOf(bytes.TrimSpace(s.CA))[:16] + ".crt"
}

// authorization returns the header that logs in, or "".
func (s *Settings) authorization() string {
	if s.Username == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(s.Username+":"+s.Password))
}
