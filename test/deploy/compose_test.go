package deploy

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"ferry/internal/config"
	"ferry/test/daemon"
)

const composeFile = "deploy/compose/root.yaml"

// A composition is the part of a Compose file that the tests use.
type composition struct {
	Services map[string]struct {
		Image       string
		Entrypoint  []string
		Environment map[string]string
	}
}

func TestComposeFileOfARootIsValid(t *testing.T) {
	cmd := exec.Command(daemon.Program(t, "docker-compose", "make packages"), "--file", "../../"+composeFile, "config",
		"--quiet")
	cmd.Env = append(os.Environ(), "IMAGE=localhost/ferry:1.0", "PASSWORD=secret")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The program that the tests use is the object store of the file, and the registry is configured
// as its settings want.
func TestComposeFileFitsThePrograms(t *testing.T) {
	var f composition
	decode(t, composeFile, &f)
	_, version, ok := strings.Cut(f.Services["objects"].Image, "versitygw:")
	if !ok || !strings.Contains(read(t, "test/tools.txt"), "versitygw@"+version+"\n") {
		t.Errorf("%s is another version than that of test/tools.txt", f.Services["objects"].Image)
	}
	environment := f.Services["registry-a"].Environment
	cfg, err := config.Load("", func(name string) (string, bool) {
		value, ok := environment[name]
		return value, ok
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Blobs == "" || !strings.HasPrefix(cfg.Database, "postgres://") {
		t.Errorf("blobs are at %q, the database is %q", cfg.Blobs, cfg.Database)
	}
	var names []string
	for _, s := range config.Settings() {
		names = append(names, s.Env())
	}
	for name := range environment {
		if strings.HasPrefix(name, "FERRY_") && !slices.Contains(names, name) {
			t.Errorf("there is no setting %s", name)
		}
	}
	bucket, _, _ := strings.Cut(strings.TrimPrefix(cfg.Blobs, "s3://"), "/")
	if command := strings.Join(f.Services["objects"].Entrypoint, " "); !strings.Contains(command, "/data/"+bucket+" ") {
		t.Errorf("no command makes the bucket %s: %s", bucket, command)
	}
}
