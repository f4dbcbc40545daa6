package words

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const glossary = `# Glossary

## Words that are not used

| word | use instead | where |
|---|---|---|
| zork, zorks | quarantine | everywhere |
| quux | connected registry | names |
| foo bar | foobar | names |

## Spelling
`

func bans(t *testing.T) []Ban {
	t.Helper()
	all, err := Bans(glossary)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// found returns the findings in a tree of the given files, as file:line and the
// banned word, or the rule.
func found(t *testing.T, files map[string]string) []string {
	t.Helper()
	root := t.TempDir()
	for file, text := range files {
		file = filepath.Join(root, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	findings, err := Check(root, bans(t))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range findings {
		all = append(all, string(f.Rule)+" "+f.String())
	}
	slices.Sort(all)
	return all
}

func TestBannedWordsAreFound(t *testing.T) {
	const quux = `: the word "quux" is not used; use instead: connected registry`
	const zork = `: the word "zork" is not used; use instead: quarantine`
	for _, test := range []struct{ name, file, text, want string }{
		{"function", "a/b.go", "package a\n\nfunc openQuux() {}\n", "a/b.go:3: \"openQuux\"" + quux},
		{"variable", "a/b.go", "package a\n\nfunc f() {\n\tquuxID := 1\n}\n", "a/b.go:4: \"quuxID\"" + quux},
		{"two words", "a/b.go", "package a\n\nfunc aFooBar() {}\n",
			"a/b.go:3: \"aFooBar\": the word \"foo bar\" is not used; use instead: foobar"},
		{"parameter", "a/b.go", "package a\n\nfunc f(quux int) {}\n", "a/b.go:3: \"quux\"" + quux},
		{"range", "a/b.go", "package a\n\nfunc f() {\n\tfor quux := range 3 {\n\t}\n}\n", "a/b.go:4: \"quux\"" + quux},
		{"JSON key", "a/b.go", "package a\n\ntype T struct {\n\tA int `json:\"theQuux,omitempty\"`\n}\n",
			"a/b.go:4: \"theQuux\"" + quux},
		{"flag", "a/b.go", "package a\n\nvar _ = set.BoolVar(&x, \"quux\", false, \"\")\n",
			"a/b.go:3: \"quux\"" + quux},
		{"setting", "a/b.go", "package a\n\nvar s = \"quux-name\"\n", "a/b.go:3: \"quux-name\"" + quux},
		{"log key", "a/b.go", "package a\n\nvar _ = log.Info(\"begin\", \"quux\", 1)\n", "a/b.go:3: \"quux\"" + quux},
		{"column", "a/b.sql", "-- of a quux\nCREATE TABLE t (\n\tquux_id TEXT DEFAULT 'quux'\n);\n",
			"a/b.sql:3: \"quux_id\"" + quux},
		{"file", "a/quux_list.txt", "", "a/quux_list.txt: \"quux_list.txt\"" + quux},
		{"text", "a/b.md", "One.\nTwo Zorks.\n",
			"a/b.md:2: \"zorks\": the word \"zorks\" is not used; use instead: quarantine"},
		{"comment", "a/b.go", "package a\n\n// The zork of f.\nfunc f() {}\n", "a/b.go:3: \"zork\"" + zork},
		{"text of a quux", "a/b.go", "package a\n\n// A quux's f.\nfunc f() { g(\"quux\") }\n", ""},
		{"part of a word", "a/b.md", "An unzorked quuxes.\n", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var want []string
			if test.want != "" {
				want = []string{"banned-word " + test.want}
			}
			if diff := cmp.Diff(want, found(t, map[string]string{test.file: test.text})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestOnlyTheGlossaryMayListBannedWords(t *testing.T) {
	if all := found(t, map[string]string{"docs/glossary.md": glossary}); len(all) > 0 {
		t.Error(all)
	}
	if all := found(t, map[string]string{"docs/other.md": glossary}); len(all) != 2 {
		t.Errorf("%d findings, want one for each of two words: %q", len(all), all)
	}
}

func TestLongLinesAreFound(t *testing.T) {
	const columns = "long-line a: the line has 121 columns: use at most 120"
	for _, test := range []struct {
		file, line string
		long       bool
	}{
		{"b.go", "// " + strings.Repeat("x", 117), false},
		{"b.go", "// " + strings.Repeat("x", 118), true},
		{"b.go", "\t// " + strings.Repeat("é", 114), true},
		{"b.sql", strings.Repeat("x", 121), true},
		{"b.sh", strings.Repeat("x", 121), true},
		{".ci/run", strings.Repeat("x", 121), true},
		{"b.md", strings.Repeat("x", 121), true},
		{"b.md", "| " + strings.Repeat("x", 121), false},
		{"b.md", "https://" + strings.Repeat("x", 121), false},
		{"c.md", "```\n" + strings.Repeat("x", 121) + "\n```", false},
		{"b.txt", strings.Repeat("x", 121), false},
	} {
		var want []string
		if test.long {
			want = []string{strings.Replace(columns, " a:", " "+test.file+":1:", 1)}
		}
		if diff := cmp.Diff(want, found(t, map[string]string{test.file: test.line + "\n"})); diff != "" {
			t.Errorf("%s %.20s: %s", test.file, test.line, diff)
		}
	}
}

func TestLongTestNamesAreFound(t *testing.T) {
	text := "package a\n\n" +
		"func TestOneTwoThreeFourFiveSixSevenEightNine(t *testing.T) {}\n" +
		"func TestOneTwoThreeFourFiveSixSevenEightNineTen(t *testing.T) {}\n" +
		"func FuzzATwoThreeFourFiveSixSevenEightHTTPTen(t *testing.F) {}\n" +
		"func oneTwoThreeFourFiveSixSevenEightNineTenEleven() {}\n"
	want := []string{
		"long-test-name a_test.go:4: TestOneTwoThreeFourFiveSixSevenEightNineTen has 10 words: use at most 9",
		"long-test-name a_test.go:5: FuzzATwoThreeFourFiveSixSevenEightHTTPTen has 10 words: use at most 9",
	}
	if diff := cmp.Diff(want, found(t, map[string]string{"a_test.go": text})); diff != "" {
		t.Error(diff)
	}
}

func TestAGlossaryThatBansNothingIsAnError(t *testing.T) {
	for _, text := range []string{
		"# Glossary\n",
		"# Glossary\n\n## Words that are not used\n\nNone.\n",
		"# Glossary\n\n## Words that are not used\n\n| x | y | somewhere |\n",
	} {
		if all, err := Bans(text); err == nil {
			t.Errorf("%q bans %v, want an error", text, all)
		}
	}
}
