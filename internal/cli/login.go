package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/atomicfile"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

func newLoginCommand(env *Env) *cobra.Command {
	o := &loginOptions{}
	cmd := verb(env, "login NAME", "Check and save the user and password for a registry", `
		ferry login home --url http://127.0.0.1:5000 -u admin --password-stdin < initial-admin-password
		ferry login ship --url https://registry.ship.example -u admin
		ferry login home --url https://registry.example --api-key-stdin < ci.key
		ferry login home --url https://registry.example --oidc`, o, "url")
	cmd.Long = `Check a registry's user and password, and save them under a name. Other
commands take that name in --registry.

The password is not encrypted. It is saved in registries.json, in
$FERRY_CONFIG_DIR or in the directory ferry of your configuration directory.
Only you can read the file.`
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return withHint(usagef("login needs one argument, the name to save the registry as"),
				"ferry login home --url URL -u USER --password-stdin")
		}
		o.name = args[0]
		return checkLoginName(o.name)
	}
	return cmd
}

type loginOptions struct {
	noClient
	name          string // to save it under
	address, user string
	fromStdin     bool // read the password there
	keyFromStdin  bool // read an API key there
	oidc          bool // log in at the provider that the registry names
}

func (o *loginOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.address, "url", "", "URL", "the registry's address, such as https://registry.example")
	textVar(set, &o.user, "username", "u", "USER", "a user, or a token")
	set.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from standard input (default ask for it)")
	set.BoolVar(&o.keyFromStdin, "api-key-stdin", false,
		"read an operator's API key from standard input, which needs no --username")
	set.BoolVar(&o.oidc, "oidc", false, "log in with a browser, at the provider of the registry's --oidc-issuer")
}

func (o *loginOptions) run(ctx context.Context, env *Env, _ *client) error {
	c, err := newClient(login{URL: o.address, User: o.user}, env.Stderr)
	if err != nil {
		return err
	}
	switch {
	case o.keyFromStdin && (o.fromStdin || o.oidc):
		return usagef("only one can be given: --password-stdin, --api-key-stdin, or --oidc")
	case o.keyFromStdin:
		err = o.withKey(ctx, env, c)
	case o.oidc && (o.user != "" || o.fromStdin):
		return usagef("--oidc needs no --username and no password")
	case o.oidc:
		err = o.withOIDC(ctx, env, c)
	case o.user == "":
		return withHint(usagef("the following arguments are required: --username/-u"), "see ferry login --help")
	default:
		err = o.withPassword(ctx, env, c)
	}
	if err != nil {
		return err
	}
	saved, err := env.loadLogins()
	if err != nil {
		return err
	}
	saved[o.name] = c.login
	path, err := env.saveLogins(saved)
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "Logged in to %s as %s; saved as %q in %s\n", c.login.URL, c.login.User, o.name, path)
	return nil
}

// withPassword reads a password, and checks it.
func (o *loginOptions) withPassword(ctx context.Context, env *Env, c *client) (err error) {
	if c.login.Password, err = env.readPassword(o.fromStdin); err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: http.MethodGet, path: "/v2/"})
	if statusOf(err) == http.StatusUnauthorized {
		return withHint(err, "the first administrator's password is in initial-admin-password, "+
			"in the registry's data directory")
	}
	return err
}

// withKey reads an API key, and asks the registry for the name of its operator.
func (o *loginOptions) withKey(ctx context.Context, env *Env, c *client) (err error) {
	if c.login.Bearer, err = env.readPassword(true); err != nil {
		return err
	}
	l, err := ask[api.Login](ctx, c, call{method: http.MethodGet, path: api.Root + "/login"})
	if err != nil {
		return err
	}
	if o.user != "" && o.user != l.value.Name {
		return fmt.Errorf("the API key belongs to the operator %q", clip(l.value.Name))
	}
	c.login.User, c.login.Password, c.login.Bearer = l.value.Name, c.login.Bearer, ""
	return nil
}

// maxPassword bounds a password's length, in bytes.
const maxPassword = 4096

// readPassword reads a password from standard input, or asks for it at a terminal.
func (e *Env) readPassword(fromStdin bool) (string, error) {
	if !fromStdin {
		if !isTerminal(e.Stdin) {
			return "", withHint(errors.New("there is no terminal that could ask for the password"),
				"pipe it in and add --password-stdin")
		}
		fmt.Fprint(e.errors, "Password: ")
		text, err := term.ReadPassword(int(e.Stdin.(*os.File).Fd()))
		fmt.Fprintln(e.errors)
		if err != nil {
			return "", fmt.Errorf("read password: %w", err)
		}
		return string(text), nil
	}
	text, err := bufio.NewReader(io.LimitReader(e.Stdin, maxPassword)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read password: %w", err)
	}
	text = strings.TrimPrefix(strings.TrimRight(text, "\r\n"), "\ufeff")
	if text == "" {
		return "", withHint(errors.New("standard input has no password"), "ferry login ... --password-stdin < FILE")
	}
	return text, nil
}

// A login is a registry that was saved by `ferry login`.
type login struct {
	URL      string `json:"url"`
	User     string `json:"user"`
	Password string `json:"password"`
	Bearer   string `json:"-"` // instead of a user and a password
	// OIDC is the login of a person, instead of a password; nil is none.
	OIDC *oidcLogin `json:"oidc,omitempty"`
}

// logins are the saved registries by name. They are kept in one JSON file, which only its
// owner can read, because it has the passwords.
type logins map[string]login

var loginName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$`)

// checkLoginName accepts names that cannot be mistaken for an address.
func checkLoginName(name string) error {
	if loginName.MatchString(name) {
		return nil
	}
	return usagef("%q is not a name for a registry: want letters, digits, - and _", clip(name))
}

// find returns the login that was saved under name, ignoring case, or for the address
// name. For an address without a saved login, the user is empty. As in the reference, name may also be the
// resource id of a registry of Azure, of which a login is saved.
func (l logins) find(name string) (login, error) {
	if strings.HasPrefix(strings.ToLower(name), "/subscriptions/") {
		return l.findAzure(name)
	}
	if found, ok := l[name]; ok {
		return found, nil
	}
	for n, found := range l {
		if strings.EqualFold(n, name) {
			return found, nil
		}
	}
	if checkLoginName(name) == nil && name != "localhost" {
		return login{}, withHint(fmt.Errorf("no registry is saved as %q", name), "%s", whichRegistry(l))
	}
	base, err := parseAddress(name)
	if err != nil {
		return login{}, err
	}
	for _, n := range slices.Sorted(maps.Keys(l)) {
		u, err := parseAddress(l[n].URL)
		if err == nil && u.Host == base.Host && (u.Scheme == base.Scheme || !strings.Contains(name, "://")) {
			return l[n], nil
		}
	}
	return login{URL: base.String()}, nil
}

// azureRegistry matches the resource id of a registry of Azure. The expression is never changed.
var azureRegistry = regexp.MustCompile(`(?i)^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/` +
	`Microsoft\.ContainerRegistry/registries/([a-z0-9]{1,50})/?$`)

// findAzure returns the login that was saved under the name in a resource id, or for its login server. The id does
// not say which cloud the registry is in, so that its address is not known without that.
func (l logins) findAzure(id string) (login, error) {
	m := azureRegistry.FindStringSubmatch(id)
	if m == nil {
		return login{}, withHint(usagef("%q is not the resource id of a registry", clip(id)), "%s", whichRegistry(l))
	}
	name := strings.ToLower(m[1])
	for _, n := range slices.Sorted(maps.Keys(l)) {
		u, err := parseAddress(l[n].URL)
		if strings.EqualFold(n, name) || err == nil && strings.HasPrefix(strings.ToLower(u.Host), name+".azurecr.") {
			return l[n], nil
		}
	}
	return login{}, withHint(usagef("a resource id of Azure has no address, and no registry is saved as %q", name),
		"give the login server in its place, such as %s.azurecr.io", name)
}

// configFile returns the path of the saved logins: in $FERRY_CONFIG_DIR, or in the user's
// configuration directory.
func (e *Env) configFile() (string, error) {
	dir := e.Getenv("FERRY_CONFIG_DIR")
	if dir == "" {
		base, err := os.UserConfigDir()
		if err != nil {
			return "", withHint(fmt.Errorf("find the configuration directory: %w", err), "set FERRY_CONFIG_DIR")
		}
		dir = filepath.Join(base, "ferry")
	}
	return filepath.Join(dir, "registries.json"), nil
}

// maxLogins bounds the file of saved logins, in bytes.
const maxLogins = 1 << 20

// readFile reads a file of at most most bytes.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(text)) > most {
		err = fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return text, err
}

// loadLogins reads the saved logins. If there are none, it returns an empty map.
func (e *Env) loadLogins() (logins, error) {
	path, err := e.configFile()
	if err != nil {
		return nil, err
	}
	text, err := readFile(path, maxLogins)
	if errors.Is(err, fs.ErrNotExist) {
		return logins{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read saved registries: %w", err)
	}
	all := logins{}
	if err := json.Unmarshal(bytes.TrimPrefix(text, []byte("\ufeff")), &all); err != nil {
		return nil, withHint(fmt.Errorf("read saved registries %s: %v", path, err), "remove the file and log in again")
	}
	return all, nil
}

// saveLogins replaces the file of saved logins, and returns its path.
func (e *Env) saveLogins(all logins) (path string, err error) {
	if path, err = e.configFile(); err != nil {
		return "", err
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = atomicfile.Write(path, append(text, '\n'))
	}
	if err != nil {
		return "", fmt.Errorf("save registry: %w", err)
	}
	return path, nil
}
