//go:build !windows

package cli

import "github.com/spf13/cobra"

// instanceCommands returns the commands that run instances in this process.
func instanceCommands(env *Env) []*cobra.Command {
	return []*cobra.Command{newServeCommand(env), newDemoCommand(env), newBlobsCommand(env)}
}
