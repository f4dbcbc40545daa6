//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ferry/test/instance"
)

// installed returns a copy of each directory of golden files of ferry install whose name begins so.
func installed(t *testing.T, prefix string) (dirs []string) {
	t.Helper()
	all, err := filepath.Glob("../../internal/install/testdata/" + prefix + "*")
	if err != nil || len(all) < 2 {
		t.Fatalf("%d directories, %v", len(all), err)
	}
	for _, golden := range all {
		dir := filepath.Join(t.TempDir(), filepath.Base(golden))
		if err := os.CopyFS(dir, os.DirFS(golden)); err != nil {
			t.Fatal(err)
		}
		dirs = append(dirs, dir)
	}
	return dirs
}

func TestInstalledComposeFilesFollowTheSchema(t *testing.T) {
	compose := program(t, "docker-compose")
	for _, dir := range installed(t, "compose") {
		cmd := exec.Command(compose, "config")
		cmd.Dir = dir
		if _, err := instance.Output(cmd); err != nil {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
	}
}

func TestInstalledUnitsAreValid(t *testing.T) {
	analyze := program(t, "systemd-analyze")
	for _, dir := range installed(t, "systemd") {
		unit := filepath.Join(dir, "ferry.service")
		text := strings.ReplaceAll(readFile(t, unit), "ExecStart=/", "ExecStart=/bin/true /")
		writeFile(t, unit, text) // a program that exists
		out, err := exec.Command(analyze, "verify", unit).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", filepath.Base(dir), err, out)
		}
	}
}

func TestInstalledValuesFitTheChart(t *testing.T) {
	helm := program(t, "helm")
	for _, dir := range installed(t, "k8s") {
		out, err := instance.Output(exec.Command(helm, "template", "ship-1", "../../charts/connected-registry",
			"--namespace", "connected-registry", "--values", filepath.Join(dir, "values.yaml")))
		if err != nil {
			t.Errorf("%s: %v", filepath.Base(dir), err)
		}
		if !strings.Contains(out, "secretName: ship-1-connection\n") {
			t.Errorf("%s: the chart does not use the Secret:\n%s", filepath.Base(dir), out)
		}
	}
}
