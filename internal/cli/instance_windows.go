package cli

import "github.com/spf13/cobra"

// instanceCommands returns no commands, because the storage of an instance needs the file
// locks and modes of Unix.
func instanceCommands(*Env) []*cobra.Command { return nil }
