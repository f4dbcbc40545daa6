package cli

import (
	"bytes"
	"cmp"
	stdflag "flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// referenceDir has a page for every command of the program, and their index.
const referenceDir = "../../docs/cli"

// updating reports whether the test rewrites the files that it compares: `make docs`.
func updating() bool { return stdflag.Lookup("update").Value.String() == "true" }

func TestReferencePagesMatchTheProgram(t *testing.T) {
	want := referencePages()
	index, err := os.ReadFile(filepath.Join(referenceDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if want["README.md"], err = referenceIndex(string(index)); err != nil {
		t.Fatal(err)
	}
	if updating() {
		writePages(t, want)
	}
	got := map[string]string{}
	names, err := filepath.Glob(filepath.Join(referenceDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		got[filepath.Base(name)] = string(text)
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("docs/cli is not what the program says; run make docs:\n%s", diff)
	}
}

// writePages writes pages, and deletes those of commands that are no more.
func writePages(t *testing.T, pages map[string]string) {
	t.Helper()
	old, err := filepath.Glob(filepath.Join(referenceDir, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		if pages[filepath.Base(name)] == "" {
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, text := range pages {
		if err := os.WriteFile(filepath.Join(referenceDir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// referenceRoot returns the commands.
func referenceRoot() *cobra.Command { return newRootCommand(newTestEnv(&bytes.Buffer{})) }

// leaves returns the commands below cmd that do something; cmd itself if it has none below.
func leaves(cmd *cobra.Command) (all []*cobra.Command) {
	if len(shownCommands(cmd)) == 0 {
		return []*cobra.Command{cmd}
	}
	if cmd.HasParent() && cmd.HasLocalFlags() {
		all = append(all, cmd)
	}
	for _, c := range shownCommands(cmd) {
		all = append(all, leaves(c)...)
	}
	return all
}

// referencePages returns a page for each command right below the program, by file name.
func referencePages() map[string]string {
	pages := map[string]string{}
	for _, cmd := range shownCommands(referenceRoot()) {
		var page strings.Builder
		fmt.Fprintf(&page, "# %s\n\nFor operators and authors of scripts: what `%[1]s --help` says. "+
			"`make docs` writes\nthis page from the program. [The index](README.md) has all commands, "+
			"and the flags that every command has.\n", cmd.CommandPath())
		below := leaves(cmd)
		if len(below) != 1 || below[0] != cmd {
			fmt.Fprintf(&page, "\n%s\n", description(cmd))
		}
		for _, c := range below {
			if c != cmd {
				fmt.Fprintf(&page, "\n## %s\n", c.CommandPath())
			}
			writeCommand(&page, c)
		}
		pages[cmd.Name()+".md"] = page.String()
	}
	return pages
}

// writeCommand writes the description of a command, its synopsis, examples and flags.
func writeCommand(page *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(page, "\n%s\n\n`%s`\n", description(cmd), synopsis(cmd))
	if cmd.Example != "" {
		fmt.Fprintf(page, "\n```sh\n%s\n```\n", strings.ReplaceAll(strings.TrimPrefix(cmd.Example, "  "), "\n  ", "\n"))
	}
	page.WriteString(flagTable(cmd.LocalNonPersistentFlags()))
}

// description is the text at the beginning of a command's help.
func description(cmd *cobra.Command) string {
	return markdown(strings.TrimRight(cmp.Or(cmd.Long, cmd.Short), ".") + ".")
}

var usageDefault = regexp.MustCompile(` \(default ([^)]+)\)`)

// flagTable is a table of those flags that are not hidden.
func flagTable(set *pflag.FlagSet) string {
	var rows strings.Builder
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		names := "`--" + f.Name + "`"
		if f.Shorthand != "" {
			names += ", `-" + f.Shorthand + "`"
		}
		usage, standard := f.Usage, f.DefValue
		usage, _, _ = strings.Cut(usage, "; one of ") // they have a column of their own
		if m := usageDefault.FindStringSubmatch(usage); m != nil {
			usage, standard = strings.Replace(usage, m[0], "", 1), strings.Trim(m[1], `"`)
		} else if standard == "false" || standard == "0" || standard == "[]" {
			standard = ""
		}
		if standard != "" {
			standard = "`" + strings.ReplaceAll(standard, "|", `\|`) + "`"
		}
		if isRequired(f) {
			usage, standard = strings.TrimSuffix(usage, requiredMark), "required"
		}
		fmt.Fprintf(&rows, "| %s | %s | %s | %s |\n", names, flagValues(f), standard, markdown(usage))
	})
	if rows.Len() == 0 {
		return ""
	}
	return "\n| flag | value | default | meaning |\n|---|---|---|---|\n" + rows.String()
}

// flagValues is the kind of a flag's value, or the words that it allows.
func flagValues(f *pflag.Flag) string {
	if f.Value.Type() == "bool" {
		return ""
	}
	words := []string{f.Value.Type()}
	if own, ok := f.Value.(*flag); ok && own.choices != nil {
		words = own.choices
	}
	return "`" + strings.Join(words, "`, `") + "`"
}

// markdown escapes characters that Markdown gives a meaning.
func markdown(text string) string {
	return strings.NewReplacer(`|`, `\|`, `*`, `\*`, `<`, `&lt;`, "`", "\\`").Replace(text)
}

// referenceIndex replaces the generated parts of the index: a table of all commands, and one
// of the flags that every command has.
func referenceIndex(page string) (string, error) {
	root := referenceRoot()
	var commands strings.Builder
	commands.WriteString("\n| command | does |\n|---|---|\n")
	for _, top := range shownCommands(root) {
		fmt.Fprintf(&commands, "| [`%s`](%s.md) | %s |\n", top.CommandPath(), top.Name(), markdown(top.Short))
		for _, c := range leaves(top) {
			if c != top {
				fmt.Fprintf(&commands, "| [`%s`](%s.md#%s) | %s |\n", c.CommandPath(), top.Name(),
					strings.ReplaceAll(c.CommandPath(), " ", "-"), markdown(c.Short))
			}
		}
	}
	parts := map[string]string{"commands": commands.String(), "global flags": flagTable(root.PersistentFlags())}
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		begin, end := "<!-- "+name+", by make docs -->\n", "\n<!-- end of "+name+" -->"
		before, rest, found := strings.Cut(page, begin)
		_, after, closed := strings.Cut(rest, end)
		if !found || !closed {
			return "", fmt.Errorf("the index lacks the lines %q and %q", begin, end)
		}
		page = before + begin + parts[name] + end + after
	}
	return page, nil
}
