package cli

import (
	"context"
	"runtime"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/telemetry"
)

func newVersionCommand(env *Env) *cobra.Command {
	return localVerb(env, "version", "Show the program's version", `
		ferry version
		ferry version --query ferry -o tsv`, versionOptions{})
}

type versionOptions struct{}

func (versionOptions) define(*pflag.FlagSet) {}

func (versionOptions) run(_ context.Context, env *Env) error {
	return env.print(map[string]string{
		"ferry":    telemetry.Version(),
		"go":       runtime.Version(),
		"platform": runtime.GOOS + "/" + runtime.GOARCH,
	})
}
