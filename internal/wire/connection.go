package wire

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// A ConnectionString has everything that a new connected registry needs to find
// its parent and to authenticate there. Format it with [ConnectionString.Secret]:
// its String omits the password and the join token.
type ConnectionString struct {
	Name      string // of the connected registry
	Token     string // the sync token's name
	Password  string // "" with a JoinToken
	JoinToken string // which the registry exchanges, once, for a password of its own; "" with a Password
	Protocol  string // http or https
	// Endpoint is the parent's host, with a port unless it is the protocol's default. If a proxy
	// forwards only one path to the parent, that path follows. Several endpoints of the same parent are
	// separated by commas, the preferred one first.
	Endpoint string
}

// The limits on a text that is parsed.
const (
	maxConnectionString = 4096 // bytes
	maxEndpoints        = 8
)

// The keys of a connection string, in the order in which it is written.
const (
	keyName     = "ConnectedRegistryName"
	keyToken    = "SyncTokenName"
	keyPassword = "SyncTokenPassword"
	keyJoin     = "JoinToken"
	keyEndpoint = "ParentGatewayEndpoint"
	keyProtocol = "ParentEndpointProtocol"
)

var connectionKeys = []string{keyName, keyToken, keyPassword, keyJoin, keyEndpoint, keyProtocol}

// requiredForm is the form of a connection string, for errors.
const requiredForm = keyName + "=VALUE;" + keyToken + "=VALUE;" + keyPassword + "=VALUE;" + keyEndpoint + "=VALUE;" +
	keyProtocol + "=VALUE"

// ParseConnectionString parses a connection string. It ignores additions of
// editors, shells and JSON files: a byte-order mark, line ends, white space and a
// pair of quotes around the text, and an empty last field. No error has any of
// the values.
func ParseConnectionString(text string) (ConnectionString, error) {
	return ParseConnectionStringFor(text, "")
}

// ParseConnectionStringFor is [ParseConnectionString] with another endpoint, or with that of
// the text if endpoint is "".
func ParseConnectionStringFor(text, endpoint string) (ConnectionString, error) {
	if len(text) > maxConnectionString {
		return ConnectionString{}, fmt.Errorf("connection string is longer than %d bytes", maxConnectionString)
	}
	var c ConnectionString
	values, seen := c.values(), map[int]bool{}
	for _, field := range strings.Split(unwrap(text), ";") {
		if field = strings.TrimSpace(field); field == "" {
			continue
		}
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			return ConnectionString{}, errors.New("connection string: a field has no '=': want " + requiredForm)
		}
		key = strings.TrimSpace(key)
		known := slices.IndexFunc(connectionKeys, func(k string) bool { return strings.EqualFold(k, key) })
		if known < 0 {
			return ConnectionString{}, fmt.Errorf("connection string: unknown key: want %s",
				strings.Join(connectionKeys, ", "))
		}
		if seen[known] {
			return ConnectionString{}, fmt.Errorf("connection string: %s is there twice", connectionKeys[known])
		}
		seen[known], *values[known] = true, strings.TrimSpace(value)
	}
	c.Endpoint = cmp.Or(endpoint, c.Endpoint)
	for i, key := range connectionKeys {
		unused := key == keyJoin || key == keyPassword && c.JoinToken != ""
		if *values[i] == "" && !unused {
			return ConnectionString{}, fmt.Errorf("connection string: %s is missing", key)
		}
	}
	if c.Password != "" && c.JoinToken != "" {
		return ConnectionString{}, fmt.Errorf("connection string: %s and %s exclude each other", keyPassword, keyJoin)
	}
	for i, key := range connectionKeys {
		if isPlaceholder(*values[i]) {
			return ConnectionString{}, PlaceholderError{key}
		}
	}
	c.Protocol = strings.ToLower(c.Protocol)
	return c, c.check()
}

// NoPassword stands for the password in a connection string that was made without one, in the
// reference's words. Nobody can log in with it.
const NoPassword = "<use --generate-password to generate a new password>"

// isPlaceholder reports whether a value is a text in angle brackets, or the beginning or the end of
// [NoPassword], of which a shell or an editor may have cut the rest.
func isPlaceholder(v string) bool {
	return strings.HasPrefix(v, "<") && strings.HasSuffix(v, ">") || strings.Contains(v, "--generate-password")
}

// A PlaceholderError is a connection string with a placeholder in place of a value.
type PlaceholderError struct{ key string }

// Error names the field.
func (e PlaceholderError) Error() string {
	return fmt.Sprintf("connection string: %s is a placeholder, where a value must be", e.key)
}

// Hint says how to get the value.
func (e PlaceholderError) Hint() string {
	if e.key == keyEndpoint {
		return "write the parent's host:port there, as this machine reaches it; the root does not know it"
	}
	return "make the connection string again, with --generate-password 1"
}

// values are the fields of c, in the order of [connectionKeys].
func (c *ConnectionString) values() []*string {
	return []*string{&c.Name, &c.Token, &c.Password, &c.JoinToken, &c.Endpoint, &c.Protocol}
}

// unwrap removes the additions around a connection string.
func unwrap(text string) string {
	bare := func(s string) string { return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s), "\ufeff")) }
	text = bare(text)
	for _, quote := range []string{`"`, "'"} {
		if len(text) >= 2 && strings.HasPrefix(text, quote) && strings.HasSuffix(text, quote) {
			text = bare(text[1 : len(text)-1])
		}
	}
	return strings.NewReplacer("\r", "", "\n", "").Replace(text)
}

var (
	plainName    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_-]{0,63}$`)
	endpointHost = regexp.MustCompile(`^[A-Za-z0-9.:_\[\]-]+$`)
	endpointPath = regexp.MustCompile(`^(/[A-Za-z0-9._~-]*[A-Za-z0-9_~-])*$`) // no segment is "." or ".."
)

func (c ConnectionString) check() error {
	if c.Protocol != "http" && c.Protocol != "https" {
		return fmt.Errorf("connection string: %s is neither http nor https", keyProtocol)
	}
	if !plainName.MatchString(c.Name) {
		return fmt.Errorf("connection string: %s is no name of a connected registry", keyName)
	}
	if strings.Contains(c.Token, ":") { // HTTP Basic ends the name with a colon
		return fmt.Errorf("connection string: %s holds a colon, which no name has", keyToken)
	}
	endpoints := c.Endpoints()
	if len(endpoints) > maxEndpoints {
		return fmt.Errorf("connection string: %s has more than %d endpoints", keyEndpoint, maxEndpoints)
	}
	for _, e := range endpoints {
		if err := CheckEndpoint(e); err != nil {
			return fmt.Errorf("connection string: %s %w", keyEndpoint, err)
		}
	}
	return nil
}

// CheckEndpoint returns an error unless a text is one endpoint. The error has nothing of the text.
func CheckEndpoint(text string) error {
	u, err := url.Parse("https://" + text)
	if err != nil || u.Host+u.Path != text || !endpointHost.MatchString(u.Host) || u.Hostname() == "" ||
		!endpointPath.MatchString(u.Path) || len(text) > maxConnectionString/2 {
		return errors.New("is no host, or host:port, or one of them with a path")
	}
	if _, port, err := net.SplitHostPort(u.Host); err == nil && port == "" {
		return errors.New("has an empty port")
	}
	return nil
}

// Endpoints returns the endpoints of the parent, the preferred one first.
func (c ConnectionString) Endpoints() []string {
	all := strings.Split(c.Endpoint, ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// Host returns the host of the parent's first endpoint, with its port, and without a path.
func (c ConnectionString) Host() string {
	host, _, _ := strings.Cut(c.Endpoints()[0], "/")
	return host
}

// URL returns the address of the parent's first endpoint, without a slash at its end.
func (c ConnectionString) URL() string { return c.Protocol + "://" + c.Endpoints()[0] }

// URLs returns the addresses of all endpoints of the parent, in order.
func (c ConnectionString) URLs() (all []*url.URL) {
	for _, e := range c.Endpoints() {
		if u, err := url.Parse(c.Protocol + "://" + e); err == nil { // a parsed connection string has no others
			all = append(all, u)
		}
	}
	return all
}

// At returns the connection string with another endpoint.
func (c ConnectionString) At(endpoint string) ConnectionString {
	c.Endpoint = endpoint
	return c
}

// Secret returns the connection string with its password, or its join token.
func (c ConnectionString) Secret() string {
	var fields []string
	for i, value := range c.values() {
		if *value != "" {
			fields = append(fields, connectionKeys[i]+"="+*value)
		}
	}
	return strings.Join(fields, ";")
}

// String returns the connection string without its password and its join token, for logs.
func (c ConnectionString) String() string {
	for _, secret := range []*string{&c.Password, &c.JoinToken} {
		if *secret != "" {
			*secret = "***"
		}
	}
	return c.Secret()
}

// GoString is String, because %#v must not show the password either.
func (c ConnectionString) GoString() string { return c.String() }
