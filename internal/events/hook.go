package events

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"ferry/internal/terminal"
)

// maxHookOutput is how much output of a hook gets into the log, in bytes.
const maxHookOutput = 4 << 10

// hookGrace is how long a hook that was stopped may take to end, and to close its output.
const hookGrace = 2 * time.Second

// A Hook runs a program for each event. The program gets the CloudEvent on its standard input, a few
// variables, and no argument. No shell is involved.
type Hook struct {
	Program string        // an absolute path
	Timeout time.Duration // after which it is killed, with all processes that it has started
	Log     *slog.Logger
}

var _ Receiver = (*Hook)(nil)

// CheckHook returns an error unless program is a file that this instance may run.
func CheckHook(program string) error {
	info, err := os.Stat(program)
	switch {
	case !filepath.IsAbs(program):
		return errors.New("the hook is not an absolute path to a program")
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("the hook %s is not a program: it must be a file that may be executed", program)
	}
	return nil
}

// Deliver implements [Receiver].
func (h *Hook) Deliver(ctx context.Context, _ int64, event json.RawMessage) (status int, err error) {
	var e CloudEvent
	if err := json.Unmarshal(event, &e); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, h.Timeout)
	defer cancel()
	out := &limitedBuffer{limit: maxHookOutput}
	cmd := exec.CommandContext(ctx, h.Program)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(append(event, '\n')), out, out
	cmd.Env = hookEnvironment(e)
	cmd.Dir = "/"
	// The process group has everything that the program starts, and is killed as a whole.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = hookGrace
	start := time.Now()
	err = cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left running
	}
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		err = fmt.Errorf("the hook did not end within %s, and was killed", h.Timeout)
	}
	attrs := []any{"event", e.ID, "action", e.Data.Action, "took", time.Since(start).Round(time.Millisecond),
		"output", terminal.Printable(string(out.kept))}
	if err != nil {
		h.Log.Warn("hook failed", append(attrs, "err", err)...)
		return 0, fmt.Errorf("hook failed: %w", err)
	}
	h.Log.Info("hook ran", attrs...)
	return 0, nil
}

// hookEnvironment returns the variables of a hook: only those that programs need anywhere, and those
// of the event. Secrets of this instance are in none of them.
func hookEnvironment(e CloudEvent) []string {
	env := []string{"FERRY_EVENT=" + e.Data.Action, "FERRY_EVENT_ID=" + e.ID, "FERRY_EVENT_TYPE=" + e.Type}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if t := e.Data.Target; t != nil {
		env = append(env, "FERRY_REPOSITORY="+t.Repository, "FERRY_TAG="+t.Tag, "FERRY_DIGEST="+t.Digest)
	}
	if r := e.Data.ConnectedRegistry; r != nil {
		env = append(env, "FERRY_CONNECTED_REGISTRY="+r.Name)
	}
	if e.Data.Reason != "" {
		env = append(env, "FERRY_REASON="+e.Data.Reason)
	}
	return env
}

// A limitedBuffer keeps the first bytes that are written to it, and discards the rest.
type limitedBuffer struct {
	kept  []byte
	limit int
}

// Write implements [io.Writer].
func (b *limitedBuffer) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), b.limit-len(b.kept))]...)
	return len(p), nil
}
