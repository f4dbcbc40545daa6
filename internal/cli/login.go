package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

func newLoginCommand(env *Env) *cobra.Command {
	o := &loginOptions{}
	cmd := localVerb(env, "login NAME", "Check a registry's user and password, and save them under a name", `
		ferry login home --url http://127.0.0.1:5000 -u admin --password-stdin < initial-admin-password
		ferry login ship --url https://registry.ship.example -u admin`, o, "url", "username")
	cmd.Long = `Check a registry's user and password, and save them under a name, which
--registry then takes.

The password is saved as it is, in registries.json in $FERRY_CONFIG_DIR or
your configuration directory, in a file that only you can read.`
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return withHint(usagef("login needs one argument, the name to save the registry as"), "ferry login home --url URL -u USER --password-stdin")
		}
		o.name = args[0]
		return checkLoginName(o.name)
	}
	return cmd
}

type loginOptions struct {
	name          string // to save it under
	address, user string
	fromStdin     bool // read the password there
}

func (o *loginOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.address, "url", "", "URL", "the registry's address, as https://registry.example")
	textVar(set, &o.user, "username", "u", "USER", "user, or token")
	set.BoolVar(&o.fromStdin, "password-stdin", false, "read the password from standard input")
}

func (o *loginOptions) run(ctx context.Context, env *Env) error {
	base, err := parseAddress(o.address)
	if err != nil {
		return err
	}
	password, err := env.readPassword(o.fromStdin)
	if err != nil {
		return err
	}
	l := login{URL: base.String(), User: o.user, Password: password}
	c, err := newClient(l)
	if err != nil {
		return err
	}
	if _, err := c.do(ctx, call{method: http.MethodGet, path: "/v2/"}); err != nil {
		var r *refusal
		if errors.As(err, &r) && r.status == http.StatusUnauthorized {
			r.hint = "the first administrator's password is in initial-admin-password, in the registry's data directory"
		}
		return err
	}
	saved, err := env.loadLogins()
	if err != nil {
		return err
	}
	saved[o.name] = l
	if err := env.saveLogins(saved); err != nil {
		return err
	}
	path, err := env.configFile()
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "Logged in to %s as %s; saved as %q in %s\n", l.URL, l.User, o.name, path)
	return nil
}

// maxPassword bounds a password's length, in bytes.
const maxPassword = 4096

// readPassword reads a password's line from standard input, or asks for one
// at a terminal.
func (e *Env) readPassword(fromStdin bool) (string, error) {
	if !fromStdin {
		if !isTerminal(e.Stdin) {
			return "", withHint(errors.New("there is no terminal to ask for the password at"), "pipe it in and add --password-stdin")
		}
		fmt.Fprint(e.Stderr, "Password: ")
		text, err := term.ReadPassword(int(e.Stdin.(*os.File).Fd()))
		fmt.Fprintln(e.Stderr)
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
