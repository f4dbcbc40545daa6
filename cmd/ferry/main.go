// Ferry is an OCI container registry that travels. A root registry runs where the network
// is good. Connected registries sync from it over links that are slow, lossy and often
// down.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // an image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // used only where the machine has no authorities

	"ferry/internal/cli"
)

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup ignores it
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run runs the program and returns the exit code: 0 for success, 1 for an error, and 2 for
// wrong usage.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer,
	getenv func(string) string) int {
	return cli.Run(ctx, args, &cli.Env{Stdin: stdin, Stdout: stdout, Stderr: stderr, Getenv: getenv})
}
