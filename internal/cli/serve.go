package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/config"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

func newServeCommand(env *Env) *cobra.Command {
	cmd := verb(env, "serve", "Run a registry: a root, or a connected registry where there is a connection string", `
		ferry serve --data-dir /var/lib/ferry --listen :5000
		ferry serve --data-dir /var/lib/ferry --listen :5001 --connection-string-file /etc/ferry/connection-string
		ferry serve --data-dir /var/lib/ferry --external-url https://registry.example --trusted-proxies 127.0.0.1,10.0.0.0/8
		ferry serve --config /etc/ferry/ferry.yaml
		ferry serve --data-dir /var/lib/ferry --adopt`, &serveOptions{settings: map[string]string{}})
	cmd.Long = `Run a registry: a root, or a connected registry where there is a connection string.

Each setting is a flag, an environment variable (--data-dir is FERRY_DATA_DIR)
and a key of the YAML file that --config or FERRY_CONFIG names (data-dir: ...).
A flag wins over the environment, and that over the file.

At its first start an instance makes the administrator "admin" and prints the
password, which is also kept in initial-admin-password in the data directory.

The data directory and the database each have the id of their instance. Where the
two differ, or one of them is empty, because a volume is not mounted or a restore was
half done, the instance does not start: it would remove the blobs that the
database does not know. Start once with --adopt if they belong together all the same.`
	return cmd
}

type serveOptions struct {
	local
	file     string
	settings map[string]string // those that were given, by their names
	adopt    bool
}

func (o *serveOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.file, "config", "", "FILE", "YAML file with settings")
	set.BoolVar(&o.adopt, "adopt", false, "let this data directory and this database belong together")
	for _, s := range config.Settings() {
		help := s.Help
		if s.Default != "" {
			help += fmt.Sprintf(" (default %s)", s.Default)
		}
		keep := func(text string) error { o.settings[s.Name] = text; return nil }
		set.Var(&flag{kind: s.Value, set: keep}, s.Name, help)
	}
}

func (o *serveOptions) run(ctx context.Context, env *Env, _ *client) error {
	cfg, err := config.Load(cmp.Or(o.file, env.Getenv("FERRY_CONFIG")), env.Getenv, o.settings)
	if err != nil {
		return withHint(usageError{err}, "see ferry serve --help")
	}
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	return server.Run(ctx, cfg, server.Options{
		Log:     telemetry.NewLogger(env.Stderr, level, cfg.LogFormat),
		Level:   level,
		Notices: env.Stdout,
		Adopt:   o.adopt,
	})
}
