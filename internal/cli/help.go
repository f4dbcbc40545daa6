package cli

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// The width of help: that of the terminal, else of $COLUMNS, else helpColumns. Lines above
// maxHelpColumns are hard to read.
const (
	helpColumns    = 80
	maxHelpColumns = 120
)

// helpWidth returns the greatest length of a line of help.
func (e *Env) helpWidth() int {
	set, _ := strconv.Atoi(e.Getenv("COLUMNS")) // 0 if it is no number
	return min(cmp.Or(columnsOf(e.Stdout), max(set, 0), helpColumns), maxHelpColumns)
}

// writeHelp writes the help of a command: its description, how to use it, examples, the commands
// below it, its own flags, and those of every command.
func writeHelp(w io.Writer, cmd *cobra.Command, width int) {
	fmt.Fprintf(w, "%s\n\nUsage:\n", strings.TrimSpace(cmp.Or(cmd.Long, cmd.Short)))
	switch {
	case isGroup(cmd):
		fmt.Fprintf(w, "  %s COMMAND [flags]\n", cmd.CommandPath())
	default:
		fmt.Fprintln(w, wrap(synopsis(cmd), 2, 6, width))
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples:\n%s\n", cmd.Example)
	}
	if shown := shownCommands(cmd); len(shown) > 0 {
		widest := 0
		for _, c := range shown {
			widest = max(widest, len(c.Name()))
		}
		fmt.Fprint(w, "\nCommands:\n")
		for _, c := range shown {
			fmt.Fprintln(w, wrap(fmt.Sprintf("%-*s  %s", widest, c.Name(), c.Short), 2, widest+4, width))
		}
	}
	writeFlags(w, "Flags", cmd.LocalNonPersistentFlags(), width)
	everywhere := cmd.InheritedFlags()
	if !cmd.HasParent() {
		everywhere = cmd.PersistentFlags()
	}
	writeFlags(w, "Flags of every command", everywhere, width)
	if cmd.HasSubCommands() {
		fmt.Fprintf(w, "\n%s COMMAND --help has more about a command.\n", cmd.CommandPath())
	}
}

func writeFlags(w io.Writer, title string, set *pflag.FlagSet, width int) {
	if set.HasAvailableFlags() {
		fmt.Fprintf(w, "\n%s:\n%s", title, set.FlagUsagesWrapped(width))
	}
}

// wrap breaks a line at spaces, so that it has at most width characters. Its first line is
// indented by first, and the others by rest.
func wrap(text string, first, rest, width int) string {
	line := strings.Repeat(" ", first)
	var lines []string
	for i, word := range strings.Split(text, " ") {
		switch {
		case i == 0:
			line += word
		case len(line)+1+len(word) > width && strings.TrimSpace(line) != "":
			lines, line = append(lines, strings.TrimRight(line, " ")), strings.Repeat(" ", rest)+word
		default:
			line += " " + word
		}
	}
	return strings.Join(append(lines, strings.TrimRight(line, " ")), "\n")
}

// shownCommands returns the subcommands of a command that its help shows.
func shownCommands(cmd *cobra.Command) (shown []*cobra.Command) {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() && c.Name() != "help" {
			shown = append(shown, c)
		}
	}
	return shown
}

// synopsis is the command line with the arguments and flags that a command requires.
func synopsis(cmd *cobra.Command) string {
	parts := []string{cmd.CommandPath() + strings.TrimPrefix(cmd.Use, cmd.Name())}
	optional := false
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		switch {
		case isRequired(f):
			parts = append(parts, "--"+f.Name+" "+f.Value.Type())
		case !f.Hidden && f.Name != "help":
			optional = true
		}
	})
	if optional {
		parts = append(parts, "[flags]")
	}
	return strings.Join(parts, " ")
}
