//go:build !windows

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
	cmd := verb(env, "demo", "Watch a connected registry sync from a root registry", `
		ferry demo
		ferry demo --once
		ferry demo --image oci:alpine:3.20 oci:alpine:3.21`, &demoOptions{})
	cmd.Long = `Watch a connected registry sync images from a root registry, on this machine.

The demo runs both registries on loopback. It makes two versions of an image out
of this program, and then does the work of the operator of a ship. It pushes the
first version to the root, creates a connected registry, and starts it with its
connection string. It cuts the link in the middle of the first sync, which later
continues from the same byte. It makes a token for the machines on board, and
pulls, also while the root is stopped. Then both registries run until Ctrl-C,
for you to try.`
	return cmd
}

type demoOptions struct {
	noClient
	dir, rate string
	port      int
	images    []string
	once      bool
}

func (o *demoOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.dir, "data-dir", "", "DIR",
		"new or empty directory for all files of the demo (default a temporary one, deleted at the end)")
	set.IntVar(&o.port, "port", 5050,
		"port of the root; the connected registry has the next one (0 is any two free ports)")
	namesVar(set, &o.images, "image", "", "oci:DIR:TAG...",
		"OCI image layouts to sync, in this order, instead of images of this program")
	textVar(set, &o.rate, "link-rate", "", "SIZE",
		"bytes that the link carries in a second, such as 4MiB; 0 is no limit (default 8MiB)")
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
	terminal := env.draws(env.Stdout)
	return demo.Run(ctx, demo.Options{
		Dir: o.dir, Port: o.port, Images: o.images, Once: o.once, LinkRate: perSecond, Program: program,
		Out: env.Stdout, Terminal: terminal, Color: terminal && env.Getenv("NO_COLOR") == "",
		Columns: columns, Hint: withHint,
		Ferry: func(ctx context.Context, configDir, stdin string, args []string) (string, error) {
			return runFerry(ctx, configDir, stdin, max(columns-demo.Indent, 0), args)
		},
	})
}

// runFerry runs a command with FERRY_CONFIG_DIR as its only environment variable, and
// returns its output.
func runFerry(ctx context.Context, configDir, stdin string, columns int, args []string) (string, error) {
	stdout, stderr := capturedOutput{columns: columns}, bytes.Buffer{}
	vars := map[string]string{"FERRY_CONFIG_DIR": configDir}
	env := &Env{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		LookupEnv: Variables(vars),
	}
	if code := Run(ctx, args, env); code != 0 {
		return "", errors.New(strings.TrimSpace(strings.TrimPrefix(stderr.String(), "ferry: ")))
	}
	return stdout.String(), nil
}
