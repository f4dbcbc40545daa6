package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/telemetry"
)

func newRootCommand(env *Env) *cobra.Command {
	root := group("ferry", "An OCI container registry that travels", append(instanceCommands(env),
		newLoginCommand(env),
		newRepositoryCommand(env),
		newManifestCommand(env),
		newScopeMapCommand(env),
		newTokenCommand(env),
		newOperatorCommand(env),
		newConnectedRegistryCommand(env),
		newSyncCommand(env),
		newVerifyCommand(env),
		newWaitCommand(env),
		newRepairCommand(env),
		newDoctorCommand(env),
		newMirrorCommand(env),
		newImportCommand(env),
		newAuditCommand(env), newEventCommand(env), newWebhookCommand(env),
		newPushLayoutCommand(env),
		newInstallCommand(env),
		newClientCommand(env),
		newCredentialProviderCommand(env),
		newVersionCommand(env),
		newCompletionCommand(env),
	)...)
	root.Long = `Ferry is an OCI container registry that travels.

A root registry runs where the network is good. Connected registries run at
sites: on ships, in factories and in shops. Each keeps some of its parent's
repositories in sync, over links that are slow, lossy and often down. It serves
them to the machines at its site, whether the link is up or not.`
	root.Example = `  ferry demo                               # see it work, on this machine
  ferry serve --data-dir /var/lib/ferry    # run a root registry
  ferry login home --url http://127.0.0.1:5000 -u admin --password-stdin`
	root.CompletionOptions.DisableDefaultCmd = true
	root.SilenceErrors, root.SilenceUsage = true, true
	root.Version = telemetry.Version()
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		if own, ok := errors.AsType[hinted](err); ok {
			return own
		}
		invalid, ok := errors.AsType[*pflag.InvalidValueError](err)
		if ok && errors.As(err, new(*strconv.NumError)) {
			err = fmt.Errorf("invalid argument %q for \"--%s\" flag: want a whole number",
				clip(invalid.GetValue()), invalid.GetFlag().Name)
		}
		if ok && errors.Is(err, errEmpty) {
			err = fmt.Errorf("--%s has an empty value; is a variable not set?", invalid.GetFlag().Name)
		}
		return withHint(usageError{err}, "see %s --help", cmd.CommandPath())
	})
	flags := root.PersistentFlags()
	choiceVar(flags, &env.output, "output", "o", "json", outputUsage, outputForms...)
	flags.Var(&flag{kind: "JMESPATH", set: env.query.parse}, "query",
		"the part of the result to show, such as '[].name'; see https://jmespath.org")
	env.file.define(flags)
	env.messages.define(flags)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return env.begin(cmd) }
	root.SetHelpFunc(func(cmd *cobra.Command, _ []string) { writeHelp(env.Stdout, cmd, env.helpWidth()) })
	ignored(flags, "subscription", "")
	return root
}

// group makes a command that only has subcommands. Its examples are the first of each.
func group(use, short string, verbs ...*cobra.Command) *cobra.Command {
	var examples []string
	for _, v := range verbs {
		first, rest, _ := strings.Cut(v.Example, "\n")
		for strings.HasSuffix(first, `\`) {
			var line string
			line, rest, _ = strings.Cut(rest, "\n")
			first += "\n" + line
		}
		if !v.Hidden {
			examples = append(examples, first)
		}
	}
	cmd := &cobra.Command{Use: use, Short: short, Example: strings.Join(examples, "\n")}
	cmd.AddCommand(verbs...)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() } // see resolve
	return cmd
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted returns arg, in quotes if a shell needs them.
func quoted(arg string) string {
	if plainWord.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}

// options are the flags of a verb, and the function that the verb runs. A test can set and
// run them without a command line.
type options interface {
	// define defines the flags that set the options.
	define(set *pflag.FlagSet)
	// client returns a client of the registry that the options name.
	client(env *Env) (*client, error)
	// run runs the verb.
	run(ctx context.Context, env *Env, c *client) error
}

// noClient is embedded in the options of a verb that calls no registry, or several.
type noClient struct{}

func (noClient) client(*Env) (*client, error) { return nil, nil }

// verb makes a command whose flags are those of o. It takes no other arguments. The flags
// named in required must be given.
func verb(env *Env, use, short, example string, o options, required ...string) *cobra.Command {
	cmd := &cobra.Command{
		Use:     use,
		Short:   short,
		Example: formatExamples(example),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return withHint(usagef("unexpected argument %q", clip(args[0])), "see %s --help", cmd.CommandPath())
		},
		PreRunE: func(cmd *cobra.Command, _ []string) error { return require(cmd, required...) },
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.client(env)
			if err != nil {
				return err
			}
			if c != nil {
				env.connect(c)
			}
			if err := o.run(cmd.Context(), env, c); err != nil || c == nil {
				return proposeNames(cmd, c, err)
			}
			env.printUnheard(c.unheard)
			env.printWarnings(c.warnings)
			return nil
		},
	}
	o.define(cmd.Flags())
	for _, name := range required {
		cmd.Flags().Lookup(name).Usage += requiredMark
	}
	return cmd
}

// requiredMark ends the help of a flag that must be given.
const requiredMark = " (required)"

// isRequired reports whether a flag must be given.
func isRequired(f *pflag.Flag) bool { return strings.HasSuffix(f.Usage, requiredMark) }

// describe gives a command a description of several lines.
func describe(cmd *cobra.Command, long string) *cobra.Command {
	cmd.Long = strings.TrimSpace(long)
	return cmd
}

// ignored defines a flag of the reference that has no meaning in Ferry, so that scripts
// with that flag run.
func ignored(set *pflag.FlagSet, name, short string) {
	set.StringP(name, short, "", "accepted for the reference's scripts, and ignored")
	set.Lookup(name).Hidden = true
}

// require returns a usage error that lists those flags that are missing or empty.
func require(cmd *cobra.Command, names ...string) error {
	var missing []string
	for _, name := range names {
		f := cmd.Flags().Lookup(name)
		if f.Value.String() != "" {
			continue
		}
		text := "--" + f.Name
		if f.Shorthand != "" {
			text += "/-" + f.Shorthand
		}
		missing = append(missing, text)
	}
	if len(missing) == 0 {
		return nil
	}
	return withHint(usagef("the following arguments are required: %s", strings.Join(missing, ", ")),
		"see %s --help", cmd.CommandPath())
}

var (
	exampleFlag  = regexp.MustCompile(` --?[a-z]`) // the beginning of a flag in an example
	continuation = regexp.MustCompile(`\\\n\s*`)   // a backslash at the end of a line
)

// formatExamples indents examples, and breaks those that are longer than 80 columns before
// a flag, with a backslash.
func formatExamples(text string) string {
	var lines []string
	text = continuation.ReplaceAllString(text, "")
	for command := range strings.Lines(strings.TrimSpace(text)) {
		command = strings.TrimSpace(command)
		line, start := "  ", 0
		for _, flag := range append(exampleFlag.FindAllStringIndex(command, -1), []int{len(command)}) {
			end := flag[0]
			if strings.Count(command[:end], "'")%2 == 1 || strings.Count(command[:end], `"`)%2 == 1 {
				continue // not a flag, but quoted text
			}
			if len(line)+end-start > 78 && strings.TrimSpace(line) != "" {
				lines = append(lines, line+` \`)
				line = "     "
			}
			line, start = line+command[start:end], end
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\n")
}
