package cli

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFlagsMayStandAnywhereBesideACommand(t *testing.T) {
	for _, line := range []string{
		"token show -r home -n line1 -o tsv --only-show-errors",
		"-r home token show -n line1 -o tsv --only-show-errors",
		"-o tsv --registry home token --name line1 show --only-show-errors",
		"--only-show-errors token -o tsv show -r home -n line1",
		"--only-show-errors true token --output=tsv -n line1 show -r home",
		"--name line1 --reg home -o tsv token show --only-show-errors",
		"az acr token show -r home -n line1 -o tsv --only-show-errors",
		"acr token show -r home -n line1 -o tsv --only-show-errors",
	} {
		got, err := resolve(newRootCommand(newTestEnv(&bytes.Buffer{})), strings.Fields(line))
		if err != nil {
			t.Errorf("ferry %s: %v", line, err)
			continue
		}
		for i, arg := range got {
			got[i] = strings.TrimSuffix(arg, "=true")
		}
		for _, want := range []string{"--registry=home", "--name=line1", "--output=tsv", "--only-show-errors"} {
			if !strings.Contains(" "+strings.Join(got, " ")+" ", " "+want+" ") {
				t.Errorf("ferry %s: %q lacks %s", line, got, want)
			}
		}
		if diff := cmp.Diff([]string{"token", "show"}, got[:2]); diff != "" || len(got) != 6 {
			t.Errorf("ferry %s: %q", line, got)
		}
	}
	got, err := resolve(newRootCommand(newTestEnv(&bytes.Buffer{})),
		strings.Fields("--repository a b connected-registry create -n ship1"))
	want := []string{"connected-registry", "create", "--repository=a\x00b", "--name=ship1"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
}

func TestUnknownCommandProposesTheNearestLine(t *testing.T) {
	for line, want := range map[string]string{
		"tokn":                                        "ferry token",
		"token shwo":                                  "ferry token show",
		"token shw -r home":                           "ferry token show -r home",
		"-r home conected-registry --foo list":        "ferry connected-registry list -r home --foo",
		"conected-registry list -r home":              "ferry connected-registry list -r home",
		"connected registry list":                     "ferry connected-registry list",
		"list repository":                             "ferry repository list",
		"list repository -n home":                     "ferry repository list -n home",
		"repository ls -n home":                       "ferry repository list -n home",
		"get token -n x":                              "ferry token show -n x",
		"get-settings -n ship1":                       "ferry connected-registry get-settings -n ship1",
		"credential generate -n line1":                "ferry token credential generate -n line1",
		"token credentials generate":                  "ferry token credential generate",
		"repository lst -u bot -p secret":             "ferry repository list -u bot ...",
		"az acr tokn list":                            "ferry token list",
		"--repository factory/app --bogus repo list":  "ferry repository list --repository factory/app --bogus",
		"connected-registry show-status --name ship1": "",
		"connectd-registry list -n x --foo bar":       "ferry connected-registry list -n x --foo bar",
		"connectd-registry -n x --foo bar list":       "ferry connected-registry list -n x --foo bar",
		"--foo bar token list":                        "ferry token list --foo bar",
		"token --foo bar lst -r home":                 "ferry token list --foo bar -r home",
		"manifst list-metadata -r home app -o table":  "ferry manifest list-metadata -r home app -o table",
		"repo update --image app:1 -r home x -- -y":   "ferry repository update --image app:1 -r home x -- -y",
		"wharf":         "",
		"list":          "",
		"token x y z w": "",
	} {
		_, err := resolve(newRootCommand(newTestEnv(&bytes.Buffer{})), strings.Fields(line))
		var said bytes.Buffer
		if err == nil || report(&said, err) != 2 || !strings.Contains(said.String(), "has no command") {
			t.Errorf("ferry %s: %v", line, err)
			continue
		}
		_, hint, _ := strings.Cut(said.String(), "\nhint: ")
		got := ""
		if after, ok := strings.CutPrefix(strings.TrimSpace(hint), "did you mean "); ok {
			got = strings.TrimSuffix(after, "?")
		}
		if got != want {
			t.Errorf("ferry %s proposes %q, want %q", line, got, want)
		}
	}
}

func TestUnknownFlagProposesTheNearest(t *testing.T) {
	for line, want := range map[string]string{
		"token show --naem x":        "did you mean --name?",
		"token show --registri home": "did you mean --registry?",
		"token show --zzzzzz":        "see ferry token show --help",
	} {
		_, err := resolve(newRootCommand(newTestEnv(&bytes.Buffer{})), strings.Fields(line))
		var said bytes.Buffer
		if err == nil || report(&said, err) != 2 || !strings.Contains(said.String(), "hint: "+want+"\n") {
			t.Errorf("ferry %s: %q, want %q", line, said.String(), want)
		}
	}
}
