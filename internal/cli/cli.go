// Package cli is the command line: the nouns and verbs of the reference, one file per
// noun. They call the management API and the registry API of a running instance, except
// `ferry serve`, which is an instance. Begin with [Run] and with verb in root.go.
//
// Results are written to standard output, in the form that --output and --query ask for.
// Messages for people are written to standard error. An error is one line, "ferry: ...";
// if the user can do something about it, a line "hint: ..." follows. See [Run] for the exit code.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ferry/internal/terminal"
)

// An Env is the process that a command runs in.
type Env struct {
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
	// LookupEnv returns a variable of the environment, and whether it is set; see [os.LookupEnv]
	// and [Variables].
	LookupEnv func(name string) (value string, set bool)
	Now       func() time.Time // nil is time.Now

	// Hangup has an element for each SIGHUP. It ends every command but ferry serve, which
	// reads its settings again, unless IgnoreHangup is true, as under nohup.
	Hangup       <-chan os.Signal
	IgnoreHangup bool
	hangups      hangups

	output string // the values of --output, --query and --to-file
	query  query
	file   resultFile
	messages
	errors io.Writer // standard error for errors and questions, also with --only-show-errors
	waits  *waits
}

// Variables returns an [Env.LookupEnv] of variables.
func Variables(vars map[string]string) func(name string) (value string, set bool) {
	return func(name string) (string, bool) {
		value, set := vars[name]
		return value, set
	}
}

// Getenv returns a variable of the environment; "" if it is not set.
func (e *Env) Getenv(name string) string {
	value, _ := e.LookupEnv(name)
	return value
}

// Run runs the command line args, without the program's name, and returns
// the exit code: 0 for success, 1 for an error, 2 for wrong usage, 3 if the resource that a
// command should show does not exist. Some commands have others, which their help says.
func Run(ctx context.Context, args []string, env *Env) int {
	if env.Now == nil {
		env.Now = time.Now
	}
	env.errors = env.Stderr
	ctx, stop := env.watchHangups(ctx)
	defer stop()
	root := newRootCommand(env)
	if isCompletion(args) {
		writeCompletions(ctx, env, root, args)
		return 0
	}
	args, err := resolve(root, args)
	if err == nil {
		root.SetArgs(args)
		var cmd *cobra.Command
		cmd, err = root.ExecuteContextC(ctx)
		err = advise(cmd, err)
	}
	if err == nil || env.file.result.Len() > 0 { // a command may fail and have a result, such as verify
		err = cmp.Or(err, env.file.close(env))
	}
	if err != nil {
		return report(env.errors, err)
	}
	return 0
}

// resolve finds the command that args name, and rewrites its flags into the form that
// pflag reads. The result begins with the words of the command.
func resolve(root *cobra.Command, args []string) ([]string, error) {
	root.InitDefaultHelpCmd()
	cmd, rest, err := find(root, args)
	if err != nil {
		return nil, err
	}
	path := strings.Fields(cmd.CommandPath())[1:]
	if cmd.DisableFlagParsing {
		return append(path, rest...), nil
	}
	if isGroup(cmd) && cmd.HasParent() && !asksForHelp(rest) {
		return nil, needsCommand(cmd)
	}
	cmd.InitDefaultHelpFlag()
	cmd.InitDefaultVersionFlag()
	cmd.InheritedFlags() // merges the parents' flags into the command's own
	if rest, err = normalize(cmd.Flags(), rest); err != nil {
		if _, ok := errors.AsType[hinted](err); !ok {
			err = withHint(err, "see %s --help", cmd.CommandPath())
		}
		return nil, err
	}
	return append(path, rest...), nil
}

// A usageError is a command line that could not be understood: exit code 2.
type usageError struct{ error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// A hinted error also says how to solve the problem.
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

// oneLine returns the text of an error on one line. Joined errors have a line each. Those
// that end in the same cause as an earlier one are left out.
func oneLine(text string) string {
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

// report writes err, and its hint if it has one, and returns the exit code.
func report(w io.Writer, err error) int {
	fmt.Fprintf(w, "ferry: %s\n", terminal.Printable(oneLine(err.Error())))
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		fmt.Fprintf(w, "hint: %s\n", terminal.Printable(h.Hint()))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	if e, ok := errors.AsType[exitError](err); ok {
		return e.code
	}
	return 1
}

// An exitError ends the program with a code of its own.
type exitError struct {
	error
	code int
}

func (e exitError) Unwrap() error { return e.error }

// exitMissing is the exit code of a command that should show a resource that does not exist. It is
// the reference's, whose scripts look with it whether to create one.
const exitMissing = 3

// advise gives the error of a command its exit code, and a hint if it has none.
func advise(cmd *cobra.Command, err error) error {
	if statusOf(err) == http.StatusNotFound && strings.HasPrefix(cmd.Name(), "show") {
		err = exitError{err, exitMissing}
	}
	var h interface{ Hint() string }
	if _, ok := errors.AsType[usageError](err); ok && !errors.As(err, &h) {
		err = withHint(err, "see %s --help", cmd.CommandPath())
	}
	return err
}
