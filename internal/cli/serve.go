package cli

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"ferry/internal/config"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

func newServeCommand(env *Env) *cobra.Command {
	var file string
	cmd := flagsOnly("serve", "Run a registry: a root, or a connected registry where there is a connection string", `
		ferry serve --data-dir /var/lib/ferry --listen :5000
		ferry serve --data-dir /var/lib/ferry --listen :5001 --connection-string-file /etc/ferry/connection-string
		ferry serve --config /etc/ferry/ferry.yaml`)
	cmd.Long = `Run a registry: a root, or a connected registry where there is a connection string.

Each setting is a flag, an environment variable (--data-dir is FERRY_DATA_DIR)
and a key of the YAML file that --config or FERRY_CONFIG names (data-dir: ...).
A flag wins over the environment, and that over the file.

At its first start an instance makes the administrator "admin" and prints the
password, which is also kept in initial-admin-password in the data directory.`
	flags := cmd.Flags()
	textVar(flags, &file, "config", "", "FILE", "YAML file with settings")
	settings := config.Settings()
	for _, s := range settings {
		help := s.Help
		if s.Default != "" {
			help += fmt.Sprintf(" (default %s)", s.Default)
		}
		textVar(flags, new(string), s.Name, "", s.Value, help)
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		given := map[string]string{}
		for _, s := range settings {
			if f := flags.Lookup(s.Name); f.Changed {
				given[s.Name] = f.Value.String()
			}
		}
		if file == "" {
			file = env.Getenv("FERRY_CONFIG")
		}
		cfg, err := config.Load(file, env.Getenv, given)
		if err != nil {
			return withHint(usageError{err}, "see ferry serve --help")
		}
		level := new(slog.LevelVar)
		level.Set(cfg.LogLevel)
		return server.Run(cmd.Context(), cfg, server.Options{
			Log:     telemetry.NewLogger(env.Stderr, level, cfg.LogFormat),
			Level:   level,
			Notices: env.Stdout,
		})
	}
	return cmd
}
