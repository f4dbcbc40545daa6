package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// shellWord is a word of a shell command, with or without quotes, or a comment.
var shellWord = regexp.MustCompile(`(?:'[^']*'|"[^"]*"|[^\s'"])+`)

// shellQuoted is text in quotes, and the groups are the text without them.
var shellQuoted = regexp.MustCompile(`"([^"]*)"|'([^']*)'`)

// examples returns the words of each ferry command in the code blocks of a page.
func examples(page string) (all [][]string) {
	code := false
	for line := range strings.Lines(strings.ReplaceAll(page, "\\\n", " ")) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		_, command, ok := strings.Cut(" "+line, " ferry ")
		if !code || !ok {
			continue
		}
		var words []string
		for _, w := range shellWord.FindAllString(command, -1) {
			if strings.HasPrefix(w, "#") || strings.ContainsAny(w[:1], "|<>&;)") {
				break
			}
			words = append(words, shellQuoted.ReplaceAllString(w, "$1$2"))
		}
		all = append(all, words)
	}
	return all
}

// docPages returns the paths of the pages with commands.
func docPages(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/cli/*.md", "docs/install/*.md", "charts/*/*.md"} {
		names, err := filepath.Glob(filepath.Join("../..", pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no pages match %s: %v", pattern, err)
		}
		all = append(all, names...)
	}
	return all
}

func TestEveryCommandInTheDocsParses(t *testing.T) {
	count := 0
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range examples(string(text)) {
			count++
			check(t, filepath.Base(page), args)
		}
	}
	if count < 10 {
		t.Errorf("only %d commands were found", count)
	}
}

// Other users may read a file that is made by redirection.
func TestTheDocsRedirectNoSecret(t *testing.T) {
	secret, count := regexp.MustCompile(`ACR_REGISTRY_CONNECTION_STRING|passwords\[`), 0
	for _, page := range docPages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, args := range examples(string(text)) {
			if command := strings.Join(args, " "); secret.MatchString(command) {
				count++
				if !strings.Contains(command, " --to-file ") {
					t.Errorf("%s: ferry %s does not save its secret with --to-file", page, command)
				}
			}
		}
	}
	if count < 2 {
		t.Errorf("only %d commands make a secret", count)
	}
}

func TestEveryExampleInHelpParses(t *testing.T) {
	commands(t, func(cmd *cobra.Command) {
		for _, args := range examples("```\n" + cmd.Example + "\n```") {
			check(t, cmd.CommandPath(), args)
		}
	})
}

// check fails the test unless args are a valid command line.
func check(t *testing.T, where string, args []string) {
	t.Helper()
	root := newRootCommand(newTestEnv(&bytes.Buffer{}))
	resolved, err := resolve(root, args)
	if err != nil {
		t.Errorf("%s: ferry %s: %v", where, strings.Join(args, " "), err)
		return
	}
	cmd, rest, err := root.Find(resolved)
	if err == nil &&
		(cmd == root && len(args) > 0 || cmd.HasSubCommands() && len(rest) > 0 && !strings.HasPrefix(rest[0], "-")) {
		t.Errorf("%s: there is no command ferry %s", where, strings.Join(args, " "))
		return
	}
	if err == nil {
		err = cmd.ParseFlags(rest)
	}
	if err == nil {
		err = cmd.ValidateArgs(cmd.Flags().Args())
	}
	if err != nil {
		t.Errorf("%s: ferry %s: %v", where, strings.Join(args, " "), err)
	}
}

func TestCommandsPageNamesEverySetting(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(referenceDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "\n## Settings of a registry\n")
	if !ok {
		t.Fatal("docs/cli/README.md has no section with the settings")
	}
	defined := map[string]bool{}
	newServeCommand(newTestEnv(&bytes.Buffer{})).Flags().VisitAll(func(f *pflag.Flag) {
		defined[f.Name] = true
		if !f.Hidden && !strings.Contains(table, "`--"+f.Name+"`") {
			t.Errorf("docs/cli/README.md does not name the setting --%s", f.Name)
		}
	})
	for _, m := range regexp.MustCompile("`--([a-z0-9-]+)`").FindAllStringSubmatch(table, -1) {
		if !defined[m[1]] {
			t.Errorf("docs/cli/README.md names the setting --%s, which ferry serve does not have", m[1])
		}
	}
}
