// Package docs holds the pages to the program: what they name must be there,
// and what the program shows to others must be in them.
package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	names, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	all := map[string]string{}
	for _, name := range append(names, filepath.Join(top, "README.md"), filepath.Join(top, "CONTRIBUTING.md"),
		filepath.Join(top, "CHANGELOG.md")) {
		name, err := filepath.Rel(top, name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = read(t, name)
	}
	return all
}

// found returns what the first group of pattern matches in text, each once.
func found(pattern, text string) []string {
	var all []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(all, m[1]) {
			all = append(all, m[1])
		}
	}
	return all
}

// named fails the test unless text has each word in code style, or in an
// example of JSON.
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

func TestTheProtocolsPageNamesEveryFieldAndCode(t *testing.T) {
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

func TestTheStoragePageNamesEveryTable(t *testing.T) {
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
		// A table that takes another's place is known by that one's name.
		renamed := found(`ALTER TABLE (\w+) RENAME TO`, string(sql))
		made := found(`CREATE TABLE (\w+)`, string(sql))
		tables = append(tables,
			slices.DeleteFunc(made, func(name string) bool { return slices.Contains(renamed, name) })...)
	}
	named(t, page, read(t, page), tables)
}

func TestTheManagementPageNamesEveryCode(t *testing.T) {
	const page = "docs/management-api.md"
	named(t, page, read(t, page), found(`= "([A-Z_]{5,})"`, read(t, "internal/api/problem.go")))
}

func TestTheArchitecturePageNamesEveryPackage(t *testing.T) {
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

// A test that a page names is `TestName` or `package: TestName`.
func TestEveryTestThatAPageNamesIsThere(t *testing.T) {
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
				t.Errorf("%s names the test %s, which is not there", page, name)
			}
		}
	}
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	for page, text := range pages(t) {
		for _, link := range found(`\]\(([^)\s]+)\)`, text) {
			file, anchor, _ := strings.Cut(link, "#")
			if strings.Contains(file, "://") {
				continue
			}
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(top, target)); err != nil {
				t.Errorf("%s leads to %s, which is not there", page, link)
				continue
			}
			if anchor != "" && !slices.Contains(anchors(read(t, target)), anchor) {
				t.Errorf("%s leads to %s, and there is no such heading", page, link)
			}
		}
	}
}

// anchors returns what a page's headings are linked by.
func anchors(text string) []string {
	var all []string
	for _, heading := range found(`(?m)^#+ +(.+)$`, text) {
		heading = regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(heading), "")
		all = append(all, strings.ReplaceAll(heading, " ", "-"))
	}
	return all
}

func TestEveryMakeTargetThatAPageNamesIsThere(t *testing.T) {
	targets := found(`(?m)^([a-z0-9-]+):`, read(t, "Makefile"))
	for page, text := range pages(t) {
		for _, target := range found("(?m)(?:`|^)make ([a-z0-9-]+)", text) {
			if !slices.Contains(targets, target) {
				t.Errorf("%s names `make %s`, which the Makefile does not have", page, target)
			}
		}
	}
}
