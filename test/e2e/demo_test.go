//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ferry/test/instance"
)

func TestDemoRunsWithTheReadmeCommand(t *testing.T) {
	cmd := exec.Command("go", "run", "./cmd/ferry", "demo", "--once", "--port", "0")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	out, err := instance.Output(cmd)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "nothing answers at") || !strings.Contains(out, "That was all.") {
		t.Errorf("it did not run to its end:\n%s", out)
	}
}

// The test runs the commands that the demo prints, unchanged, in another shell.
func TestCommandsSuggestedByTheDemoWork(t *testing.T) {
	program(t, "skopeo")
	program(t, "podman")
	temporary := t.TempDir()
	demo := exec.Command(instance.Binary(t), "demo", "--port", "0", "--link-rate", "0")
	demo.Env = append(os.Environ(), "TMPDIR="+temporary)
	out, err := demo.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := demo.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { demo.Process.Kill() }) // an error means that it has ended
	// The test machine has no policy for images, and may not be allowed to run
	// containers: the script copies the program out of the image instead.
	store := shortDir(t)
	script := []string{fmt.Sprintf(`set -eu
skopeo() { command skopeo --insecure-policy "$@"; }
podman() {
	set -- --root %[1]s/root --runroot %[1]s/run --storage-driver vfs \
		--events-backend none --cgroup-manager cgroupfs "$@"
	if [ "${11}" = run ]; then
		made=$(command podman "${@:1:10}" create --network none "${@: -1}")
		command podman "${@:1:10}" cp "$made:/usr/bin/ferry" %[1]s/ferry
		%[1]s/ferry version
	else
		command podman "$@"
	fi
}`, store)}
	lines := bufio.NewScanner(out)
	for trying := false; lines.Scan() && !strings.Contains(lines.Text(), "Push an image ashore"); {
		if trying {
			script = append(script, lines.Text())
		}
		trying = trying || strings.Contains(lines.Text(), "Try, in another terminal")
	}
	typed, err := instance.Output(exec.Command("bash", "-c", strings.Join(script, "\n")))
	if err != nil {
		t.Errorf("%v\ntyped:\n%s", err, strings.Join(script, "\n"))
	}
	for fact, want := range map[string]string{"the ship is online": `"connectionState": "Online"`,
		"the image has the program": `"platform": "linux/`} {
		if !strings.Contains(typed, want) {
			t.Errorf("the output does not show that %s:\n%s", fact, typed)
		}
	}
	if err := demo.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // to its end
	}
	if err := demo.Wait(); err != nil {
		t.Errorf("the demo ended with: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(temporary, "ferry-demo-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
