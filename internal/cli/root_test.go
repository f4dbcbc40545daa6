package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
)

// commands calls visit with every command of the program.
func commands(t *testing.T, visit func(*cobra.Command)) {
	t.Helper()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		visit(cmd)
		for _, c := range cmd.Commands() {
			walk(c)
		}
	}
	walk(newRootCommand(newTestEnv(&bytes.Buffer{})))
}

// newTestEnv returns an environment without variables. Results are written to stdout.
func newTestEnv(stdout io.Writer) *Env {
	return &Env{Stdin: strings.NewReader(""), Stdout: stdout, Stderr: &bytes.Buffer{},
		LookupEnv: Variables(nil)}
}

func TestHelpOfEveryCommandHasExamples(t *testing.T) {
	commands(t, func(cmd *cobra.Command) {
		if strings.TrimSpace(cmd.Example) == "" {
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(strings.ReplaceAll(cmd.Example, "\\\n", "")) {
			if !strings.HasPrefix(strings.TrimSpace(line), "ferry ") {
				t.Errorf("%s: %q is no example of ferry", cmd.CommandPath(), line)
			}
		}
	})
}

func TestHelpFitsIn80Columns(t *testing.T) {
	commands(t, func(cmd *cobra.Command) {
		if len(cmd.Commands()) == 0 && cmd.Name() == "help" {
			return
		}
		stdout := &capturedOutput{columns: 80}
		args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
		if code := Run(context.Background(), args, newTestEnv(stdout)); code != 0 {
			t.Fatalf("ferry %s: exit code %d", strings.Join(args, " "), code)
		}
		for line := range strings.Lines(stdout.String()) {
			line = strings.TrimRight(line, "\n")
			exempt := strings.HasPrefix(line, "Use \"ferry")
			if !exempt && utf8.RuneCountInString(line) > 80 {
				t.Errorf("ferry %s: %q is longer than 80 characters", strings.Join(args, " "), line)
			}
		}
	})
}
