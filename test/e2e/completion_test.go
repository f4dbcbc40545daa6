//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ferry/test/instance"
)

// Real shells complete commands, flags and the names of resources, wherever they stand.
func TestShellsCompleteCommandsAndNames(t *testing.T) {
	root := instance.Start(t, instance.Options{})
	home := root.Admin(t, "home")
	home.Run(t, "scope-map", "create", "-n", "pullers", "--repository", "factory/app", "content/read")
	home.Run(t, "token", "create", "-n", "line1", "--scope-map", "pullers")
	home.Run(t, "token", "create", "-n", "line2", "--scope-map", "pullers")
	dir := t.TempDir()
	if err := os.Symlink(instance.Binary(t), filepath.Join(dir, "ferry")); err != nil {
		t.Fatal(err)
	}
	env := append(home.Env(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
	scripts := map[string]string{}
	for _, shell := range []string{"bash", "fish", "zsh"} {
		scripts[shell] = filepath.Join(dir, "ferry."+shell)
		if err := os.WriteFile(scripts[shell], []byte(home.Run(t, "completion", shell)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(name string, args ...string) []string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Env = env
		out, err := instance.Output(cmd)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Fields(out)
	}
	const bash = `source /usr/share/bash-completion/bash_completion; source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
__start_ferry; for word in "${COMPREPLY[@]}"; do echo "${word%% *}"; done`
	const fish = `source $argv[1]; complete --do-complete "$argv[2]" | string replace -r '\t.*' ''; true`
	for line, want := range map[string][]string{
		"ferry tok":                                              {"token"},
		"ferry -r home token sh":                                 {"show"},
		"ferry token show -n ":                                   {"line1", "line2"},
		"ferry token -o tsv show --name line":                    {"line1", "line2"},
		"ferry token create --scope-map p":                       {"pullers"},
		"ferry token show --out":                                 {"--output"},
		"ferry token show -r h":                                  {"home"},
		"ferry connected-registry update --client":               nil,
		"ferry connected-registry create --client-tokens line1 ": {"line2"},
	} {
		words := strings.Split(line, " ")
		got := map[string][]string{
			"bash": run("bash", append([]string{"-c", bash, "bash", scripts["bash"]}, words...)...),
			"fish": run("fish", "-c", fish, scripts["fish"], line),
		}
		for shell, got := range got {
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("%s completes %q with %q, want %q", shell, line, got, want)
			}
		}
	}
	loaded := run("zsh", "-f", "-c", `autoload -U compinit; compinit -D; source "$1"; print ${_comps[ferry]}`, "zsh",
		scripts["zsh"])
	if !slices.Equal(loaded, []string{"_ferry"}) {
		t.Errorf("zsh completes ferry with %q", loaded)
	}
}
