package cli

import "github.com/spf13/cobra"

// nodeCommands returns nothing, because no container runtime on Windows has these files.
func nodeCommands(*Env) []*cobra.Command { return nil }
