// Ferry is an OCI container registry that travels. A root registry runs where the network
// is good. Connected registries sync from it over links that are slow, lossy and often
// down.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // an image has no time zones

	_ "golang.org/x/crypto/x509roots/fallback" // used only where the machine has no authorities

	"ferry/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	hangup := make(chan os.Signal, 1)
	ignored := signal.Ignored(syscall.SIGHUP) // by nohup
	signal.Notify(hangup, syscall.SIGHUP)
	os.Exit(cli.Run(ctx, os.Args[1:], &cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv,
		Hangup: hangup, IgnoreHangup: ignored,
	}))
}
