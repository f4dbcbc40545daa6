package demo_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"ferry/internal/cli"
)

// A screen records the output of a demo. It calls seen when want appears.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	want string
	seen func()
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if s.seen != nil && strings.Contains(s.text.String(), s.want) {
		s.seen()
		s.seen = nil
	}
	return len(p), nil
}

// interrupted runs a demo, and interrupts it when want appears.
func interrupted(t *testing.T, want string) (code int, said, complained string) {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, stderr := &screen{want: want, seen: cancel}, &bytes.Buffer{}
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: out, Stderr: stderr, LookupEnv: os.LookupEnv}
	code = cli.Run(ctx, []string{"demo", "--port", "0", "--link-rate", "0"}, env)
	left, err := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if said = out.text.String(); !strings.Contains(said, want) {
		t.Errorf("it did not say %q", want)
	}
	return code, said, stderr.String()
}

func TestDemoServesUntilItIsInterrupted(t *testing.T) {
	code, said, complained := interrupted(t, "Both registries run until you press Ctrl-C")
	if code != 0 || complained != "" {
		t.Errorf("exit code %d: %s", code, complained)
	}
	for _, want := range []string{
		"ashore, the root: http://127.0.0.1:", "aurora, the ship: http://127.0.0.1:", "  admin     ferry_",
		"  deckhand  ferry_",
		"connected-registry show -n aurora -r ashore", "skopeo copy", "stopping",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it did not say %q:\n%s", want, said)
		}
	}
}

func TestInterruptedDemoLeavesNoFiles(t *testing.T) {
	steps := []string{"1. A root registry", "3. A connected registry", "6. A token"}
	if testing.Short() {
		steps = steps[1:2]
	}
	for _, step := range steps {
		t.Run(step, func(t *testing.T) {
			code, _, complained := interrupted(t, step)
			if code != 1 || complained != "ferry: interrupted\n" {
				t.Errorf("exit code %d: %q", code, complained)
			}
		})
	}
}

func TestReadOnlyDirectoryIsRefusedWithAHint(t *testing.T) {
	stderr := &bytes.Buffer{}
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &bytes.Buffer{}, Stderr: stderr, LookupEnv: os.LookupEnv}
	// Not even the user root may create a directory there.
	code := cli.Run(t.Context(), []string{"demo", "--once", "--port", "0", "--data-dir", "/sys/ferry-demo"}, env)
	if code != 1 || !strings.Contains(stderr.String(), "/sys/ferry-demo") ||
		!strings.Contains(stderr.String(), "hint: name a directory that you may write to") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}
