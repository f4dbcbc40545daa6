package cli

import "github.com/spf13/cobra"

// newClientCommand makes the commands that set up the machines that pull.
func newClientCommand(env *Env) *cobra.Command {
	return group("client", "Set up machines that pull: runtimes and clusters", append(nodeCommands(env),
		newPullSecretCommand(env),
	)...)
}
