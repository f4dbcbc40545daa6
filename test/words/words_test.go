package words

import (
	"os"
	"path/filepath"
	"testing"
)

const top = "../.."

func TestTreeFollowsTheGlossaryAndLineLengths(t *testing.T) {
	glossary, err := os.ReadFile(filepath.Join(top, "docs/glossary.md"))
	if err != nil {
		t.Fatal(err)
	}
	bans, err := Bans(string(glossary))
	if err != nil {
		t.Fatal(err)
	}
	findings, err := Check(top, bans)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
}
