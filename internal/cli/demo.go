package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"ferry/internal/config"
	"ferry/internal/demo"
)

func newDemoCommand(env *Env) *cobra.Command {
	var dir, rate string
	var port int
	var once bool
	cmd := flagsOnly("demo", "Watch images cross from a root registry to a connected registry, on this machine", `
		ferry demo
		ferry demo --once
		ferry demo --image oci:alpine:3.20 oci:alpine:3.21`)
	cmd.Long = `Watch images cross from a root registry to a connected registry, on this machine.

The demo starts both registries on loopback, in a directory of their own, packs
two versions of an image out of this program, and does what the operator of a
ship does: it pushes, makes a connected registry, starts it with its connection
string, gives a token to the machines on board, and pulls, also with the root
switched off. Then both serve until Ctrl-C, for you to try.`
	flags := cmd.Flags()
	textVar(flags, &dir, "data-dir", "", "DIR", "directory for all that the demo writes, new or empty (default a temporary one, removed at the end)")
	flags.IntVar(&port, "port", 5050, "port of the root; the connected registry has the next (0 is any two that are free)")
	images := listVar(flags, "image", "oci:DIR:TAG...", "OCI image layouts to use instead of packed images; they cross in this order")
	textVar(flags, &rate, "link-rate", "", "SIZE", "what the link lets through in a second, as 4MiB; 0 is no limit (default 8MiB)")
	flags.BoolVar(&once, "once", false, "end after the last step")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if rate == "" {
			rate = "8MiB"
		}
		perSecond, err := config.ParseSize(rate)
		if err != nil {
			return usageError{fmt.Errorf("--link-rate: %w", err)}
		}
		if port < 0 || port > 65534 {
			return usagef("--port %d: want 0 to 65534", port)
		}
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
		terminal := isTerminal(env.Stdout)
		return demo.Run(cmd.Context(), demo.Options{
			Dir: dir, Port: port, Images: images.values(), Once: once, LinkRate: perSecond, Program: program,
			Out: env.Stdout, Terminal: terminal, Color: terminal && env.Getenv("NO_COLOR") == "" && env.Getenv("TERM") != "dumb",
			Ferry: ferry,
		})
	}
	return cmd
}

// ferry runs a command as in a shell whose only setting is where the saved
// logins are.
func ferry(ctx context.Context, configDir, stdin string, args []string) (string, error) {
	var stdout, stderr bytes.Buffer
	env := &Env{
		Stdin: strings.NewReader(stdin), Stdout: &stdout, Stderr: &stderr,
		Getenv: func(name string) string {
			if name == "FERRY_CONFIG_DIR" {
				return configDir
			}
			return ""
		},
	}
	if code := Run(ctx, args, env); code != 0 {
		return "", errors.New(strings.TrimSpace(strings.TrimPrefix(stderr.String(), "ferry: ")))
	}
	return stdout.String(), nil
}
