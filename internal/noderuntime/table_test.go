package noderuntime

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// documented returns a row as docs/install/nodes.md has it.
func documented(r Row) string {
	versions := "any"
	switch {
	case r.From != "" && r.Before != "":
		versions = r.From + " to before " + r.Before
	case r.From != "":
		versions = r.From + " and newer"
	case r.Before != "":
		versions = "before " + r.Before
	}
	files := "none"
	if len(r.Files) > 0 {
		files = "`" + strings.Join(r.Files, "`, `") + "`"
	}
	effective := "at the next pull"
	if !r.Live {
		effective = r.Step
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s |", r.Runtime, versions, r.Found, files, effective)
}

func TestDocumentationHasEveryRow(t *testing.T) {
	text, err := os.ReadFile("../../docs/install/nodes.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for _, r := range Table() {
		rows = append(rows, documented(r))
	}
	if want := strings.Join(rows, "\n"); !strings.Contains(string(text), want+"\n\n") {
		t.Errorf("docs/install/nodes.md does not have these rows:\n%s", want)
	}
}
