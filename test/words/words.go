// Package words keeps the tree to the words of docs/glossary.md and to lines
// that fit on a screen. [Check] finds the breaches; the tests of this
// package run it over the repository.
package words

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Rule is one of the checks.
type Rule string

const (
	BannedWord   Rule = "banned-word"    // a word of the glossary's second table
	LongTestName Rule = "long-test-name" // a test's name has more words than maxTestWords
	LongLine     Rule = "long-line"      // a line has more columns than maxColumns
)

const (
	maxTestWords = 9
	maxColumns   = 120
	tab          = 4
)

// A Finding is a place that breaks a rule.
type Finding struct {
	Rule Rule
	File string // below the root of the tree, with slashes
	Line int    // 0 for the file's name
	Text string // the fault and its remedy
}

func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.File, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// A Ban is a word that is not used, and its replacement.
type Ban struct {
	Word    string
	Instead string
	Names   bool // banned in names only, not in text
}

// Bans reads the table under the heading "Words that are not used" of the
// glossary. A first cell may hold several words, separated by commas.
func Bans(glossary string) ([]Ban, error) {
	_, section, ok := strings.Cut(glossary, "\n## Words that are not used\n")
	if !ok {
		return nil, fmt.Errorf("the glossary has no section %q", "Words that are not used")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var bans []Ban
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if !strings.HasPrefix(line, "|") || len(cells) != 3 || strings.HasPrefix(cells[0], "---") {
			continue
		}
		where := strings.TrimSpace(cells[2])
		if where == "where" {
			continue
		}
		if where != "names" && where != "everywhere" {
			return nil, fmt.Errorf("%q is banned in %q: want names or everywhere", cells[0], where)
		}
		for word := range strings.SplitSeq(cells[0], ",") {
			word = strings.ToLower(strings.TrimSpace(word))
			bans = append(bans, Ban{
				Word:    word,
				Instead: strings.TrimSpace(cells[1]),
				Names:   where == "names",
			})
		}
	}
	if len(bans) == 0 {
		return nil, fmt.Errorf("the glossary bans no word")
	}
	return bans, nil
}

// Check returns the breaches of the rules in the text files below root.
func Check(root string, bans []Ban) ([]Finding, error) {
	c := newChecker(bans)
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		if d.IsDir() {
			if ignoredDir(file) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || generated(file) {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if bytes.IndexByte(text, 0) < 0 && utf8.Valid(text) {
			c.file(file, string(text))
		}
		return nil
	})
	return c.findings, err
}

// generated reports whether Go wrote a file: sums, and the names of modules that other modules need.
func generated(file string) bool {
	return path.Base(file) == "go.sum" || path.Base(file) == "go.mod" && file != "go.mod"
}

// ignoredDir reports whether a directory holds nothing that people write.
func ignoredDir(dir string) bool {
	base := path.Base(dir)
	return slices.Contains([]string{".git", ".tools", "bin"}, dir) ||
		strings.HasSuffix(path.Dir(dir), "testdata") && (base == "fuzz" || base == "rapid")
}

// exempt are files with banned words in their text: the list of the words, and
// the history of messages to users.
var exempt = []string{"docs/glossary.md", "CHANGELOG.md"}

// earlier are files with names of earlier versions: the migration to the first version, the
// one that renames its columns, and the renames within the gateway protocol.
var earlier = []string{
	"internal/metadb/migrations/0001_initial.sql", "internal/metadb/migrations/0002_plain_names.sql",
	"internal/gateway/version1.go", "internal/gateway/version1_test.go",
}

// A checker gathers the findings of one tree.
type checker struct {
	names    map[string]Ban // by word: banned in names
	longest  int            // number of words in the longest ban
	text     map[string]Ban // by word: banned in text
	pattern  *regexp.Regexp // matches the words of text
	findings []Finding
}

func newChecker(bans []Ban) *checker {
	c := &checker{names: map[string]Ban{}, text: map[string]Ban{}}
	var quoted []string
	for _, b := range bans {
		c.names[b.Word] = b
		c.longest = max(c.longest, len(strings.Fields(b.Word)))
		if !b.Names {
			c.text[b.Word] = b
			quoted = append(quoted, regexp.QuoteMeta(b.Word))
		}
	}
	c.pattern = regexp.MustCompile(`\b(?:` + strings.Join(quoted, "|") + `)\b`)
	return c
}

func (c *checker) found(rule Rule, file string, line int, format string, args ...any) {
	c.findings = append(c.findings, Finding{rule, file, line, fmt.Sprintf(format, args...)})
}

func (c *checker) file(file, text string) {
	c.lines(file, text)
	if slices.Contains(earlier, file) {
		return
	}
	for _, n := range names(file, text) {
		words := split(n.text)
		for i := range words {
			for length := 1; length <= c.longest && i+length <= len(words); length++ {
				if b, banned := c.names[strings.Join(words[i:i+length], " ")]; banned {
					c.banned(file, n.line, n.text, b)
				}
			}
		}
		if count := len(words) - 1; n.test && count > maxTestWords {
			c.found(LongTestName, file, n.line, "%s has %d words: use at most %d", n.text, count, maxTestWords)
		}
	}
	if slices.Contains(exempt, file) || len(c.text) == 0 {
		return
	}
	lower := strings.ToLower(text)
	for _, at := range c.pattern.FindAllStringIndex(lower, -1) {
		word := lower[at[0]:at[1]]
		c.banned(file, 1+strings.Count(lower[:at[0]], "\n"), word, c.text[word])
	}
}

func (c *checker) banned(file string, line int, found string, b Ban) {
	c.found(BannedWord, file, line, "%q: the word %q is not used; use instead: %s", found, b.Word, b.Instead)
}

// Lines of Markdown may be longer where a line cannot be broken: in tables,
// examples and addresses.
var webAddress = regexp.MustCompile(`https?://\S+`)

func (c *checker) lines(file, text string) {
	switch path.Ext(file) {
	case ".go", ".sql", ".sh", ".md":
	default:
		if file != ".ci/run" {
			return
		}
	}
	number, fenced := 0, false
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimRight(line, "\r\n")
		if path.Ext(file) == ".md" {
			if strings.HasPrefix(line, "```") {
				fenced = !fenced
			}
			if fenced || strings.HasPrefix(line, "|") || webAddress.MatchString(line) {
				continue
			}
		}
		columns := utf8.RuneCountInString(line) + (tab-1)*strings.Count(line, "\t")
		if columns > maxColumns {
			c.found(LongLine, file, number, "the line has %d columns: use at most %d", columns, maxColumns)
		}
	}
}
