package events

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ferry/internal/metadb"
)

// runHook runs a shell script as a hook for an event, and returns the log.
func runHook(t *testing.T, script string, timeout time.Duration) (dir, log string, err error) {
	t.Helper()
	dir = t.TempDir()
	program := filepath.Join(dir, "a hook; echo no shell")
	if err := os.WriteFile(program, []byte("#!/bin/sh\ncd '"+dir+"'\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	h := &Hook{Program: program, Timeout: timeout, Log: slog.New(slog.NewTextHandler(&text, nil))}
	e := metadb.Event{Origin: "1-2", Registry: "ship1", Type: Failed, Repository: "app", Tag: "v1", Reason: "DiskError"}
	_, err = h.Deliver(t.Context(), 1, cloudEvent(e, ""))
	return dir, text.String(), err
}

func TestHookGetsTheEventAndNoSecrets(t *testing.T) {
	t.Setenv("FERRY_CONNECTION_STRING", "SyncTokenPassword=hidden")
	dir, log, err := runHook(t, `cat > stdin; env > env; echo "$# done"`, time.Minute)
	if err != nil || !strings.Contains(log, "0 done") {
		t.Errorf("%v: %s", err, log)
	}
	stdin, _ := os.ReadFile(filepath.Join(dir, "stdin"))
	env, _ := os.ReadFile(filepath.Join(dir, "env"))
	for _, want := range []string{"FERRY_EVENT=failed", "FERRY_REPOSITORY=app", "FERRY_TAG=v1",
		"FERRY_REASON=DiskError", "FERRY_CONNECTED_REGISTRY=ship1"} {
		if !strings.Contains(string(env), want+"\n") {
			t.Errorf("the environment has no %s", want)
		}
	}
	if strings.Contains(string(env), "hidden") || !strings.Contains(string(stdin), `"type":"Ferry.ImageFailed"`) {
		t.Errorf("stdin %s, environment %s", stdin, env)
	}
}

func TestHookIsKilledWithItsChildren(t *testing.T) {
	dir, _, err := runHook(t, "sleep 600 &\necho $! > child\nwait\n", time.Second)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("error %v", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "child"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; syscall.Kill(pid, 0) == nil && !isZombie(pid); i++ {
		if i > 1e6 {
			t.Fatal("a child of the hook runs on")
		}
	}
}

// isZombie reports whether a process has ended, and nobody has read its status.
func isZombie(pid int) bool {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(text), ") Z ")
}

func TestOutputOfAHookIsBounded(t *testing.T) {
	_, log, err := runHook(t, "head -c 1000000 /dev/zero | tr '\\0' x; exit 3", time.Minute)
	if err == nil || len(log) > 2*maxHookOutput || !strings.Contains(log, "exit status 3") {
		t.Errorf("%v, %d bytes of log", err, len(log))
	}
}

func TestHookMustBeAProgram(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{"hook", file, file + "2", t.TempDir()} {
		if CheckHook(program) == nil {
			t.Errorf("%s is accepted", program)
		}
	}
}
