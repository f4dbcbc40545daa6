package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/config"
	"ferry/internal/demo"
)

func newDemoCommand(env *Env) *cobra.Command {
	cmd := verb(env, "demo", "Watch images cross from a root registry to a connected registry, on this machine", `
		ferry demo
		ferry demo --once
		ferry demo --image oci:alpine:3.20 oci:alpine:3.21`, &demoOptions{})
	cmd.Long = `Watch images cross from a root registry to a connected registry, on this machine.

The demo starts both registries on loopback, in a directory of their own, packs
two versions of an image out of this program, and does what the operator of a
ship does: it pushes, makes a connected registry, and starts it with its connection
string. The link is cut in the middle of the first crossing, which then goes on
from the same byte. It gives a token to the machines on board, and pulls, also
with the root switched off. Then both serve until Ctrl-C, for you to try.`
	return cmd
}

type demoOptions struct {
	local
	dir, rate string
	port      int
	images    []string
	once      bool
}

func (o *demoOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.dir, "data-dir", "", "DIR",
		"directory for all that the demo writes, new or empty (default a temporary one, removed at the end)")
	set.IntVar(&o.port, "port", 5050,
		"port of the root; the connected registry has the next (0 is any two that are free)")
	namesVar(set, &o.images, "image", "", "oci:DIR:TAG...",
		"OCI image layouts to use instead of packed images; they cross in this order")
	textVar(set, &o.rate, "link-rate", "", "SIZE",
		"what the link lets through in a second, as 4MiB; 0 is no limit (default 8MiB)")
	set.BoolVar(&o.once, "once", false, "end after the last step")
}

func (o *demoOptions) run(ctx context.Context, env *Env, _ *client) error {
	perSecond, err := config.ParseSize(cmp.Or(o.rate, "8MiB"))
	if err != nil {
		return usageError{fmt.Errorf("--link-rate: %w", err)}
	}
	if o.port < 0 || o.port > 65534 {
		return usagef("--port %d: want 0 to 65534", o.port)
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the running program: %w", err)
	}
	columns := columnsOf(env.Stdout)
	terminal := isTerminal(env.Stdout) && env.Getenv("TERM") != "dumb"
	return demo.Run(ctx, demo.Options{
		Dir: o.dir, Port: o.port, Images: o.images, Once: o.once, LinkRate: perSecond, Program: program,
		Out: env.Stdout, Terminal: terminal, Color: terminal && env.Getenv("NO_COLOR") == "",
		Columns: columns, Hint: withHint,
		Ferry: func(ctx context.Context, configDir, stdin string, args []string) (string, error) {
			return ferry(ctx, configDir, stdin, max(columns-demo.Indent, 0), args)
		},
	})
}

// A page is output that is shown on a terminal later.
type page struct {
	bytes.Buffer
	columns int // of the terminal; 0 is any number
}

// ferry runs a command as in a shell whose only setting is where the saved
// logins are.
func ferry(ctx context.Context, configDir, stdin string, columns int, args []string) (string, error) {
	stdout, stderr := page{columns: columns}, bytes.Buffer{}
	vars := map[string]string{"FERRY_CONFIG_DIR": configDir}
	env := &Env{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string { return vars[name] },
	}
	if code := Run(ctx, args, env); code != 0 {
		return "", errors.New(strings.TrimSpace(strings.TrimPrefix(stderr.String(), "ferry: ")))
	}
	return stdout.String(), nil
}
