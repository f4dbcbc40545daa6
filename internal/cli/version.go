package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/telemetry"
)

func newVersionCommand(env *Env) *cobra.Command {
	return verb(env, "version", "Show the program's version, commit and date", `
		ferry version
		ferry version --query ferry -o tsv`, versionOptions{})
}

type versionOptions struct{ noClient }

func (versionOptions) define(*pflag.FlagSet) {}

func (versionOptions) run(_ context.Context, env *Env, _ *client) error {
	b := telemetry.ReadBuild()
	return env.print(map[string]any{
		"ferry":    b.Version,
		"commit":   b.Commit,
		"date":     b.Date,
		"modified": b.Modified,
		"go":       runtime.Version(),
		"platform": runtime.GOOS + "/" + runtime.GOARCH,
	})
}
