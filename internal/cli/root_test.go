package cli

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

func TestHelpFitsTheWidthAndDescribes(t *testing.T) {
	for width, want := range map[string]int{"80": 80, "": helpColumns, "200": maxHelpColumns, "x": helpColumns} {
		commands(t, func(cmd *cobra.Command) {
			if cmd.Hidden || cmd.Name() == "help" {
				return
			}
			var stdout bytes.Buffer
			env := newTestEnv(&stdout)
			env.LookupEnv = Variables(map[string]string{"COLUMNS": width})
			args := append(strings.Fields(cmd.CommandPath())[1:], "--help")
			if code := Run(context.Background(), args, env); code != 0 {
				t.Fatalf("ferry %s: exit code %d", strings.Join(args, " "), code)
			}
			help := stdout.String()
			for line := range strings.Lines(help) {
				if line = strings.TrimRight(line, "\n"); utf8.RuneCountInString(line) > want {
					t.Errorf("ferry %s: %q is longer than %d characters", strings.Join(args, " "), line, want)
				}
			}
			description, rest, _ := strings.Cut(help, "\n\nUsage:\n")
			if description == "" || !strings.Contains(rest, "\nExamples:\n") ||
				!strings.Contains(rest, "\nFlags of every command:\n") ||
				!cmd.HasSubCommands() && !strings.Contains(rest, "\nFlags:\n") {
				t.Errorf("ferry %s lacks a description, examples or flags:\n%s", strings.Join(args, " "), help)
			}
			cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if f.Usage == "" {
					t.Errorf("ferry %s: --%s has no description", strings.Join(args, " "), f.Name)
				}
			})
		})
	}
}

func TestEveryCommandWritesEveryForm(t *testing.T) {
	commands(t, func(cmd *cobra.Command) {
		own, ok := cmd.Flag("output").Value.(*flag)
		for _, form := range outputForms {
			if !ok || !slices.Contains(own.choices, form) {
				t.Errorf("%s does not know -o %s; see textOutputVar", cmd.CommandPath(), form)
			}
		}
	})
}
