package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/terminal"
)

// newCompletionCommand returns the command that writes a shell's script for completion. The
// scripts are cobra's. They run ferry __complete with the words of the line; see [complete].
func newCompletionCommand(env *Env) *cobra.Command {
	script := func(shell, how string, write func(root *cobra.Command, w io.Writer) error) *cobra.Command {
		o := &completionScript{write: write}
		cmd := describe(verb(env, shell, "Write the script for "+shell, "ferry completion "+shell, o), `
Write the script that completes commands, flags, their values and the names of
resources in `+shell+`. `+how)
		o.cmd = cmd
		return cmd
	}
	return group("completion", "Scripts that make a shell complete commands",
		script("bash", `It needs the package bash-completion. For this user:

  ferry completion bash > ~/.local/share/bash-completion/completions/ferry`,
			func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }),
		script("zsh", `For this user, with compinit in ~/.zshrc:

  ferry completion zsh > "${fpath[1]}/_ferry"`,
			func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }),
		script("fish", `For this user:

  ferry completion fish > ~/.config/fish/completions/ferry.fish`,
			func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }),
		script("powershell", `For this session; for all, add the line to $PROFILE:

  ferry completion powershell | Out-String | Invoke-Expression`,
			func(root *cobra.Command, w io.Writer) error { return root.GenPowerShellCompletionWithDesc(w) }),
	)
}

type completionScript struct {
	noClient
	cmd   *cobra.Command
	write func(root *cobra.Command, w io.Writer) error
}

func (o *completionScript) define(*pflag.FlagSet) {}

func (o *completionScript) run(_ context.Context, env *Env, _ *client) error {
	return o.write(o.cmd.Root(), env.Stdout)
}

// A completion is a word that may stand in place of the last one, and its description.
type completion struct{ word, text string }

// isCompletion reports whether a shell asks for completions.
func isCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// writeCompletions answers a shell, in the form that cobra's scripts read: a line for each word,
// and then what the shell should do besides.
func writeCompletions(ctx context.Context, env *Env, root *cobra.Command, args []string) {
	words, directive := complete(ctx, env, root, args[1:])
	for _, c := range words {
		line := terminal.Printable(c.word)
		if text, _, _ := strings.Cut(c.text, "\n"); args[0] == cobra.ShellCompRequestCmd && text != "" {
			line += "\t" + terminal.Printable(text)
		}
		fmt.Fprintln(env.Stdout, line)
	}
	fmt.Fprintf(env.Stdout, ":%d\n", directive)
}

// complete returns the words that may stand in place of the last of args, which may be "" or the
// beginning of a word.
func complete(
	ctx context.Context, env *Env, root *cobra.Command, args []string,
) ([]completion, cobra.ShellCompDirective) {
	if len(args) == 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	begun := args[len(args)-1]
	cmd, rest, err := find(root, args[:len(args)-1])
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	cmd.InitDefaultHelpFlag()
	cmd.InheritedFlags()
	line := readLine(cmd, rest)
	name, value, hasValue := strings.Cut(begun, "=")
	switch {
	case line.open != nil && line.pending:
		return completeValue(ctx, env, cmd, line, line.open, begun)
	case strings.HasPrefix(begun, "-") && hasValue:
		f := lookup(cmd, name)
		if f == nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		words, directive := completeValue(ctx, env, cmd, line, f, value)
		for i := range words {
			words[i].word = name + "=" + words[i].word
		}
		return words, directive
	case strings.HasPrefix(begun, "-"):
		return completeFlags(cmd, line, begun), cobra.ShellCompDirectiveNoFileComp
	case cmd.HasSubCommands():
		var words []completion
		for _, c := range shownCommands(cmd) {
			words = append(words, completion{c.Name(), c.Short})
		}
		if line.open != nil && isGroup(cmd) {
			more, directive := completeValue(ctx, env, cmd, line, line.open, begun)
			return append(starting(words, begun), more...), directive
		}
		return starting(words, begun), cobra.ShellCompDirectiveNoFileComp
	case line.open != nil:
		return completeValue(ctx, env, cmd, line, line.open, begun)
	}
	return completeArgument(env, cmd, line, begun)
}

// A readFlags is the flags of a line that is not complete.
type readFlags struct {
	values map[string][]string // by the name of the flag
	words  int                 // arguments that belong to no flag

	open    *pflag.Flag // the last flag, if the next word may be a value of it
	pending bool        // the next word must be one
}

// last returns the last value of a flag.
func (l readFlags) last(names ...string) string {
	for _, name := range names {
		if all := l.values[name]; len(all) > 0 {
			return all[len(all)-1]
		}
	}
	return ""
}

// readLine reads the flags of cmd, or of a command below it, in args.
func readLine(cmd *cobra.Command, args []string) readFlags {
	line := readFlags{values: map[string][]string{}}
	for _, arg := range args {
		name, value, hasValue := strings.Cut(arg, "=")
		switch {
		case line.open != nil && (line.pending || !strings.HasPrefix(arg, "-")):
			line.values[line.open.Name] = append(line.values[line.open.Name], arg)
			line.pending = false
			if own, ok := line.open.Value.(*flag); !ok || !own.list {
				line.open = nil
			}
		case strings.HasPrefix(arg, "-"):
			line.open, line.pending = nil, false
			f := lookup(cmd, name)
			if f == nil {
				continue
			}
			line.values[f.Name] = append(line.values[f.Name], []string{}...)
			own, isOwn := f.Value.(*flag)
			switch {
			case hasValue:
				line.values[f.Name] = append(line.values[f.Name], value)
				if isOwn && own.list {
					line.open = f
				}
			case f.NoOptDefVal != "":
				line.values[f.Name] = append(line.values[f.Name], "true")
			default:
				line.open, line.pending = f, true
			}
		default:
			line.words++
		}
	}
	return line
}

// lookup returns the flag --name or -n of cmd, else of a command below it; nil if there is none.
func lookup(cmd *cobra.Command, arg string) *pflag.Flag {
	name, long := strings.CutPrefix(arg, "--")
	if !long {
		name = strings.TrimPrefix(arg, "-")
	}
	var found, begins *pflag.Flag
	consider := func(f *pflag.Flag) {
		switch {
		case long && f.Name == name, !long && f.Shorthand == name && name != "":
			if found == nil {
				found = f
			}
		case long && begins == nil && strings.HasPrefix(f.Name, name):
			begins = f
		}
	}
	cmd.Flags().VisitAll(consider)
	visitFlags(cmd, consider)
	if found == nil {
		return begins
	}
	return found
}

// starting returns the words that start with begun, whatever the case of its letters.
func starting(words []completion, begun string) (found []completion) {
	for _, c := range words {
		if len(c.word) >= len(begun) && strings.EqualFold(c.word[:len(begun)], begun) {
			found = append(found, c)
		}
	}
	return found
}

// completeFlags returns the flags that are not on the line yet, and those that may be repeated.
func completeFlags(cmd *cobra.Command, line readFlags, begun string) []completion {
	var words []completion
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		own, isOwn := f.Value.(*flag)
		_, given := line.values[f.Name]
		if f.Hidden || given && (!isOwn || !own.list) {
			return
		}
		words = append(words, completion{"--" + f.Name, f.Usage})
		if f.Shorthand != "" && len(begun) < 2 {
			words = append(words, completion{"-" + f.Shorthand, f.Usage})
		}
	})
	return starting(words, begun)
}

// completeArgument returns words for an argument without a flag: runtimes, files, or the required
// flags that are not on the line yet.
func completeArgument(
	env *Env, cmd *cobra.Command, line readFlags, begun string,
) ([]completion, cobra.ShellCompDirective) {
	if len(cmd.ValidArgs) > 0 && line.words == 0 {
		return starting(plainWords(cmd.ValidArgs), begun), cobra.ShellCompDirectiveNoFileComp
	}
	kinds := strings.Fields(cmd.Use)[1:]
	if line.words < len(kinds) {
		switch kind := strings.Trim(kinds[line.words], "[]"); kind {
		case "DIR", "FILE":
			return nil, cobra.ShellCompDirectiveDefault
		case "NAME":
			return starting(savedLogins(env), begun), cobra.ShellCompDirectiveNoFileComp
		}
	}
	var words []completion
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if _, given := line.values[f.Name]; isRequired(f) && !given {
			words = append(words, completion{"--" + f.Name, f.Usage})
		}
	})
	return starting(words, begun), cobra.ShellCompDirectiveNoFileComp
}

func plainWords(all []string) (words []completion) {
	for _, word := range all {
		words = append(words, completion{word: word})
	}
	return words
}
