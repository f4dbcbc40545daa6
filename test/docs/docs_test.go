// Package docs compares the pages with the program. Everything that a page
// names must exist, and a page that describes an interface must name all of it.
package docs

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const top = "../.."

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// pages returns the pages of the repository by their path below its top.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{
		"*.md", "docs/*.md", "docs/cli/*.md", "docs/decisions/*.md", "docs/install/*.md", "charts/*/*.md",
	} {
		names, err := filepath.Glob(filepath.Join(top, pattern))
		if err != nil || len(names) == 0 {
			t.Fatalf("no pages match %s: %v", pattern, err)
		}
		for _, name := range names {
			name, err := filepath.Rel(top, name)
			if err != nil {
				t.Fatal(err)
			}
			all[name] = read(t, name)
		}
	}
	return all
}

// found returns the distinct matches of the first group of pattern in text.
func found(pattern, text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	return all
}

// named fails the test unless text has each word in code style or as a JSON
// string.
func named(t *testing.T, page, text string, words []string) {
	t.Helper()
	if len(words) == 0 {
		t.Fatalf("nothing to look for in %s", page)
	}
	for _, w := range words {
		if !regexp.MustCompile("[`\"]" + regexp.QuoteMeta(w) + "[`\"]").MatchString(text) {
			t.Errorf("%s does not name %s", page, w)
		}
	}
}

func TestProtocolPageNamesEveryFieldAndCode(t *testing.T) {
	const page = "docs/protocol.md"
	text, wire := read(t, page), read(t, "internal/wire/wire.go")
	named(t, page, text, found(`json:"(\w+)`, wire))
	for _, path := range found(`"(/gateway/v1/\w+)"`, wire) {
		if !strings.Contains(text, "POST "+path) {
			t.Errorf("%s does not describe %s", page, path)
		}
	}
	source := read(t, "internal/gateway/gateway.go") + read(t, "internal/gateway/server.go")
	named(t, page, text, found(`http\.\w+, "([A-Z_]+)"`, source))
}

func TestStoragePageNamesEveryTable(t *testing.T) {
	const page = "docs/storage.md"
	files, err := filepath.Glob(filepath.Join(top, "internal/metadb/migrations/*.sql"))
	if err != nil {
		t.Fatal(err)
	}
	var tables []string
	for _, f := range files {
		sql, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		// A table that replaces another one is renamed, and known by the new name.
		renamed := found(`ALTER TABLE (\w+) RENAME TO`, string(sql))
		made := found(`CREATE TABLE (\w+)`, string(sql))
		tables = append(tables,
			slices.DeleteFunc(made, func(name string) bool { return slices.Contains(renamed, name) })...)
	}
	named(t, page, read(t, page), tables)
}

func TestManagementPageNamesEveryCode(t *testing.T) {
	const page = "docs/management-api.md"
	named(t, page, read(t, page), found(`= "([A-Z_]{5,})"`, read(t, "internal/api/problem.go")))
}

func TestArchitecturePageNamesEveryPackage(t *testing.T) {
	const page = "docs/ARCHITECTURE.md"
	text := read(t, page)
	err := filepath.WalkDir(filepath.Join(top, "internal"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		sources, err := filepath.Glob(filepath.Join(path, "*.go"))
		name, _ := strings.CutPrefix(filepath.ToSlash(path), top+"/internal/")
		if err == nil && len(sources) > 0 && !strings.Contains(text, "`"+name+"`") {
			t.Errorf("%s does not name %s", page, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Pages name tests to show which promise each of them keeps.
func TestEveryNamedTestExists(t *testing.T) {
	var source strings.Builder
	for _, dir := range []string{"internal", "test"} {
		err := filepath.WalkDir(filepath.Join(top, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			text, err := os.ReadFile(path)
			source.Write(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for page, text := range pages(t) {
		for _, name := range found(`\b((?:Test|Fuzz)[A-Z][A-Za-z0-9]+)\b`, text) {
			if !strings.Contains(source.String(), "func "+name+"(") {
				t.Errorf("%s names the test %s, which does not exist", page, name)
			}
		}
	}
}

// A link is the target of a Markdown link or image, or an attribute of HTML.
const link = `\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`

func TestEveryLinkHasATarget(t *testing.T) {
	all := pages(t)
	images, err := filepath.Glob(filepath.Join(top, "docs", "*.svg"))
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range images {
		all["docs/"+filepath.Base(image)] = read(t, "docs/"+filepath.Base(image))
	}
	for page, text := range all {
		for _, target := range links(text) {
			if err := follow(page, target); err != nil {
				t.Errorf("%s: the link %s: %v", page, target, err)
			}
		}
	}
}

func TestBrokenLinksAreFound(t *testing.T) {
	text := `[a](none.md) ![b](none.svg) [c](../README.md#no-such-heading)
		<img src="none.png"> <source srcset="none2.svg">`
	found := links(text)
	if len(found) != 5 {
		t.Errorf("%d links in %s: %q", len(found), text, found)
	}
	for _, target := range found {
		if follow("docs/README.md", target) == nil {
			t.Errorf("no error for %s", target)
		}
	}
}

// links returns the links in text that lead into the repository.
func links(text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(link).FindAllStringSubmatch(text, -1) {
		if target := m[1] + m[2]; !strings.Contains(target, "://") {
			all = append(all, target)
		}
	}
	return all
}

// follow returns an error unless target, a link in page, names a file and, after
// a "#", a heading in it.
func follow(page, target string) error {
	file, anchor, _ := strings.Cut(target, "#")
	name := page
	if file != "" {
		name = filepath.Join(filepath.Dir(page), file)
	}
	text, err := os.ReadFile(filepath.Join(top, name))
	if errors.Is(err, syscall.EISDIR) && anchor == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if anchor != "" && !slices.Contains(anchors(string(text)), anchor) {
		return fmt.Errorf("%s has no such heading", name)
	}
	return nil
}

// anchors returns the anchors of the headings of a page.
func anchors(text string) []string {
	var all []string
	for _, heading := range found(`(?m)^#+ +(.+)$`, text) {
		heading = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), "")
		all = append(all, strings.ReplaceAll(heading, " ", "-"))
	}
	return all
}

func TestEveryNamedMakeTargetExists(t *testing.T) {
	targets := found(`(?m)^([a-z0-9-]+):`, read(t, "Makefile"))
	for page, text := range pages(t) {
		for _, target := range found("(?m)(?:`|^)make ([a-z0-9-]+)", text) {
			if !slices.Contains(targets, target) {
				t.Errorf("%s names `make %s`, which the Makefile does not have", page, target)
			}
		}
	}
}

func TestEveryPageIsInItsIndex(t *testing.T) {
	for page := range pages(t) {
		dir, file := filepath.Split(page)
		if dir == "" || file == "README.md" {
			continue
		}
		if index := dir + "README.md"; !slices.Contains(links(read(t, index)), file) {
			t.Errorf("%s does not link to %s", index, page)
		}
	}
}

func TestEveryPageNamesItsReaders(t *testing.T) {
	for page, text := range pages(t) {
		if dir, _ := filepath.Split(page); dir == "" {
			continue
		}
		_, first, _ := strings.Cut(text, "\n\n")
		if !strings.HasPrefix(first, "For ") && !strings.HasPrefix(first, "Read this before ") &&
			page != "docs/README.md" { // which is a table of readers
			t.Errorf("%s does not begin with the readers that it is for", page)
		}
	}
}

func TestEveryDecisionHasContextAndConsequences(t *testing.T) {
	number := 0
	for _, page := range slices.Sorted(maps.Keys(pages(t))) {
		dir, file := filepath.Split(page)
		if dir != "docs/decisions/" || file == "README.md" {
			continue
		}
		number++
		text := read(t, page)
		if title := fmt.Sprintf("# %d. ", number); !strings.HasPrefix(text, title) ||
			!strings.HasPrefix(file, fmt.Sprintf("%04d-", number)) {
			t.Errorf("%s does not have the number %d in its name and title", page, number)
		}
		want := []string{"Context", "Decision", "Consequences"}
		if got := found(`(?m)^## (.+)$`, text); !slices.Equal(got, want) {
			t.Errorf("%s has the sections %q, want %q", page, got, want)
		}
	}
}
