// Package cli is the command line: the nouns and verbs of the reference, a
// file each, over the management API and the registry API of a running
// instance, and `ferry serve`, which is one.
//
// Output that a script reads goes to standard output, in the form that
// --output and --query ask for; everything else goes to standard error. An
// error is one line, "ferry: what happened", and where there is something to
// do about it a second, "hint: what". The exit code is 0, 1 for an error, or
// 2 for a command that could not be understood.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ferry/internal/terminal"
)

// An Env is what a command has of the process it runs in.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	Getenv func(string) string
	Now    func() time.Time // nil is time.Now

	output string // --output, --query and --to-file, of every command
	query  string
	file   resultFile
}

// Run runs the command line args, without the program's name, and returns
// the exit code: 0 for success, 1 for an error, 2 for wrong usage.
func Run(ctx context.Context, args []string, env *Env) int {
	if env.Now == nil {
		env.Now = time.Now
	}
	root := newRootCommand(env)
	args, err := resolve(root, args)
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	if err == nil || env.file.result.Len() > 0 { // a command may have a result and fail, as verify does
		err = cmp.Or(err, env.file.close(env))
	}
	if err != nil {
		return report(env.Stderr, err)
	}
	return 0
}

// resolve finds the command that args name and rewrites its flags into the
// form that pflag reads. Where there is no such command, args are left for
// cobra to refuse.
func resolve(root *cobra.Command, args []string) ([]string, error) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil || cmd.DisableFlagParsing || isCompletion(args) {
		return args, nil
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.InheritedFlags() // merges the parents' flags into the command's own
	path := strings.Fields(cmd.CommandPath())[1:]
	if cmd.HasSubCommands() {
		rest, err = normalizeUntilWord(cmd.Flags(), rest)
	} else {
		rest, err = normalize(cmd.Flags(), rest)
	}
	if err != nil {
		return nil, withHint(err, "see %s --help", cmd.CommandPath())
	}
	return append(path, rest...), nil
}

// isCompletion reports whether a shell asks how args go on: cobra answers that, by
// commands which it adds once it runs.
func isCompletion(args []string) bool {
	return len(args) > 0 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd)
}

// A usageError is a command that could not be understood: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// A hinted error carries what its reader can do about it.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// Hint returns the advice, without a full stop.
func (h hinted) Hint() string { return h.hint }

func withHint(err error, format string, args ...any) error {
	return hinted{err, fmt.Sprintf(format, args...)}
}

// causes is the text of an error on one line. Several errors that were joined stand
// a line each; those that end in the cause of one before them say nothing new.
func causes(text string) string {
	var all []string
	known := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		cause := line[strings.LastIndex(line, ": ")+1:]
		if line != "" && !known[strings.TrimSpace(cause)] {
			all = append(all, line)
		}
		known[strings.TrimSpace(cause)] = true
	}
	return strings.Join(all, "; ")
}

// report writes err as every command does: one line with what happened and,
// where there is one, a line with what to do. It returns the exit code.
func report(w io.Writer, err error) int {
	fmt.Fprintf(w, "ferry: %s\n", terminal.Printable(causes(err.Error())))
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "hint: %s\n", terminal.Printable(h.Hint()))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}
