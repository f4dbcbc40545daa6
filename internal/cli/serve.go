//go:build !windows

package cli

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/config"
	"ferry/internal/kube"
	"ferry/internal/server"
	"ferry/internal/telemetry"
)

func newServeCommand(env *Env) *cobra.Command {
	cmd := verb(env, "serve", "Run a root registry or a connected registry", `
		ferry serve --data-dir /var/lib/ferry --listen :5000
		ferry serve --data-dir /var/lib/ferry --listen :5001 --connection-string-file /etc/ferry/connection-string
		ferry serve --data-dir /var/lib/ferry --external-url https://registry.example \
		--trusted-proxies 127.0.0.1,10.0.0.0/8
		ferry serve --config /etc/ferry/ferry.yaml
		ferry serve --data-dir /var/lib/ferry --adopt`, &serveOptions{settings: map[string]string{}})
	cmd.Long = `Run a registry: a root registry, or a connected registry if given a connection
string.

Each setting is a flag, an environment variable (FERRY_DATA_DIR for --data-dir)
and a key of the YAML file (data-dir) that --config or FERRY_CONFIG names. A
flag takes precedence over the environment, and that over the file.

At its first start, an instance creates the administrator "admin" and prints
the password. It is also saved in initial-admin-password in the data directory.

The data directory and the database both store the id of their instance. If the
ids differ, or one of the two is empty, a volume may not be mounted or a restore
may be incomplete. The instance then does not start, because it would delete all
blobs that the database does not know. If the two do belong together, start once
with --adopt.`
	return cmd
}

type serveOptions struct {
	noClient
	file     string
	settings map[string]string // the settings that flags gave, by name
	adopt    bool
}

func (o *serveOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.file, "config", "", "FILE", "YAML file with settings")
	set.BoolVar(&o.adopt, "adopt", false,
		"accept that this data directory and this database belong together, although their ids differ")
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
	reload := env.reloads()
	load := func() (config.Config, error) {
		return config.Load(cmp.Or(o.file, env.Getenv("FERRY_CONFIG")), env.LookupEnv, o.settings)
	}
	cfg, err := load()
	if err != nil {
		return withHint(usageError{err}, "see ferry serve --help")
	}
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	log := telemetry.NewLogger(env.Stderr, level, cfg.LogFormat)
	var publisher server.CAPublisher
	if cfg.CAConfigMap != "" {
		if publisher, err = kube.NewPublisher(env.Getenv, cfg.CAConfigMap, "ca.crt"); err != nil {
			return err
		}
	}
	var logins server.LoginPublisher
	if cfg.PullSecrets != "" {
		if logins, err = kube.NewLoginPublisher(env.Getenv, cfg.PullSecrets); err != nil {
			return err
		}
	}
	if cfg.ReferenceVariables != "" {
		log.Info("settings are taken from variables of the reference", "variables", cfg.ReferenceVariables)
	}
	running, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	return server.Run(ctx, cfg, server.Options{
		Log:            log,
		Level:          level,
		Notices:        env.Stdout,
		Adopt:          o.adopt,
		CAPublisher:    publisher,
		LoginPublisher: logins,
		Load:           load,
		Reload:         reload,
		Ready:          func(server.Ready) { notifier{log}.ready(ctx, running) },
	})
}
