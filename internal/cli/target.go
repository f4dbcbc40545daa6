package cli

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"ferry/internal/config"

	"github.com/spf13/pflag"
)

// A target is the registry that a command is for. Its flags name it.
type target struct {
	flag     string // the flag that names the registry, if not --registry
	registry string
	user     string
	password string
}

// registryUsage is the help of the flag that names the registry.
const registryUsage = "the registry: a name saved by ferry login, or an address (default $FERRY_REGISTRY)"

// define defines --registry, and a flag of the reference that is ignored.
func (t *target) define(set *pflag.FlagSet) {
	textVar(set, &t.registry, "registry", "r", "REGISTRY", registryUsage)
	ignored(set, "resource-group", "g")
}

// client returns a client of the registry. It takes the credentials from the flags, else
// from the environment, else from the login that was saved under the registry's name or
// for its address.
func (t *target) client(env *Env) (*client, error) {
	name := cmp.Or(t.registry, env.Getenv("FERRY_REGISTRY"))
	saved, err := env.loadLogins()
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, withHint(usagef("the following arguments are required: %s", cmp.Or(t.flag, "--registry/-r")),
			"%s", whichRegistry(saved))
	}
	l, err := saved.find(name)
	if err != nil {
		return nil, err
	}
	switch {
	case t.user != "":
		l.User, l.Password, l.OIDC = t.user, t.password, nil
	case env.Getenv("FERRY_USERNAME") != "":
		l.User, l.Password, l.OIDC = env.Getenv("FERRY_USERNAME"), env.Getenv("FERRY_PASSWORD"), nil
	}
	if l.User == "" {
		return nil, withHint(fmt.Errorf("no user is known for %s", l.URL), "save one: ferry login NAME --url %s "+
			"-u admin --password-stdin, or set FERRY_USERNAME and FERRY_PASSWORD", l.URL)
	}
	c, err := newClient(l, env.Stderr)
	if err == nil {
		c.name = name
		c.renew = renewing(env, name, c)
	}
	return c, err
}

// parseAddress reads http://host[:port], https://host[:port] or host[:port], each perhaps with
// a path. Without a scheme, a loopback address is http and any other https.
func parseAddress(address string) (*url.URL, error) {
	text := address
	hasScheme := strings.Contains(address, "://")
	if !hasScheme {
		text = "https://" + address
	}
	u, err := url.Parse(text)
	if err == nil && u.User != nil {
		return nil, usagef("the address of %s has a user's name or a password: leave them out", clip(u.Host))
	}
	if err == nil {
		u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	}
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") ||
		u.Path != "" && !config.IsPathPrefix(u.Path) || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("%q is not the address of a registry: want https://host, http://host:5000 or host:5000",
			clip(address[strings.LastIndex(address, "@")+1:])) // without a password
	}
	ip, _ := netip.ParseAddr(u.Hostname()) // the zero value for a name is no loopback address
	if !hasScheme && (u.Hostname() == "localhost" || ip.IsLoopback()) {
		u.Scheme = "http"
	}
	return u, nil
}

// whichRegistry is a hint that lists the saved registries.
func whichRegistry(saved logins) string {
	if len(saved) == 0 {
		return "save it with ferry login NAME --url URL -u USER --password-stdin, or give an address"
	}
	return "saved registries are " + strings.Join(slices.Sorted(maps.Keys(saved)), ", ") + "; or give an address"
}
