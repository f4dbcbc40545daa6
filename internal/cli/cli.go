// Package cli is the command line: the nouns and verbs of the reference, a
// file each, over the management API and the registry API of a running
// instance, and `ferry serve`, which is one.
package cli

import (
	"context"
	"io"

	"github.com/spf13/cobra"
)

// An Env is what a command has of the process it runs in.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
}

// Run runs the command line args, without the program's name, and returns
// the exit code: 0 for success, 1 for an error, 2 for wrong usage.
func Run(ctx context.Context, args []string, env *Env) int {
	root := newRootCommand(env)
	root.SetArgs(args)
	if err := root.ExecuteContext(ctx); err != nil {
		return 1
	}
	return 0
}

func newRootCommand(env *Env) *cobra.Command {
	root := &cobra.Command{Use: "ferry"}
	root.AddCommand(newDemoCommand(env))
	return root
}
