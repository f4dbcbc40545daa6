// Ferry is an OCI container registry that travels: a root registry where the
// network is good, and connected registries that follow it over links that
// are slow, lossy and often down.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"ferry/internal/cli"
)

func main() {
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as nohup lets it be
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}

// run is the program without its process: it returns the exit code, which is
// 0 for success, 1 for an error and 2 for wrong usage.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer,
	getenv func(string) string) int {
	return cli.Run(ctx, args, &cli.Env{Stdin: stdin, Stdout: stdout, Stderr: stderr, Getenv: getenv})
}
