// Command quick is `ferry serve` with settings from the environment alone, in which garbage is collected
// every second, and after seconds. Tests kill it and look at what is left.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"ferry/internal/config"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "ferry:", err)
		os.Exit(1)
	}
}

// run serves with settings from flags in pairs (--data-dir DIR) and the environment.
func run(ctx context.Context, args []string) error {
	flags := map[string]string{}
	if len(args) > 0 && args[0] == "serve" {
		args = args[1:]
	}
	for ; len(args) > 1; args = args[2:] {
		flags[strings.TrimPrefix(args[0], "--")] = args[1]
	}
	cfg, err := config.Load("", os.LookupEnv, flags)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	return server.Run(ctx, cfg, server.Options{
		Log: telemetry.NewLogger(os.Stderr, level, cfg.LogFormat), Notices: os.Stdout,
		Collection: server.Collection{Every: time.Second, Grace: 3 * time.Second, Orphans: 3 * time.Second},
	})
}
