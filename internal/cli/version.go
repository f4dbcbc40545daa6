package cli

import (
	"runtime"

	"github.com/spf13/cobra"

	"ferry/internal/telemetry"
)

func newVersionCommand(env *Env) *cobra.Command {
	return verb("version", "Show the program's version", `
		ferry version
		ferry version --query ferry -o tsv`,
		func(*cobra.Command) error {
			return env.print(map[string]string{
				"ferry":    telemetry.Version(),
				"go":       runtime.Version(),
				"platform": runtime.GOOS + "/" + runtime.GOARCH,
			}, nil)
		})
}
