package cli_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/api"
	"ferry/internal/cli"
)

// A pair is a root with an image, and a connected registry ship1 that is not started yet.
type pair struct {
	*managed
	connection string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{managed: &managed{root: startInstance(t, filepath.Join(t.TempDir(), "root"))}}
	if err := push(p.root.url, "admin", p.root.password, "factory/app:1.0"); err != nil {
		t.Fatal(err)
	}
	p.call(t, p.root, "PUT", "/connected-registries/ship1", map[string]any{"repositories": []string{"factory/app"}})
	settings := p.call(t, p.root, "POST", "/connected-registries/ship1/settings",
		map[string]any{"parentProtocol": "http", "generatePassword": 1})
	p.connection = settings["ACR_REGISTRY_CONNECTION_STRING"].(string)
	return p
}

// start starts the connected registry.
func (p *pair) start(t *testing.T) {
	t.Helper()
	p.child = startInstance(t, filepath.Join(t.TempDir(), "ship1"), "--connection-string", p.connection,
		"--parent-endpoint", strings.TrimPrefix(p.root.url, "http://"))
}

// A running is a command that runs at the root, with its outputs as lines.
type running struct {
	stdout, stderr *bufio.Scanner
	code           chan int
	errors         chan string
}

// run runs a command whose outputs are pipes.
func (p *pair) run(ctx context.Context, t *testing.T, args ...string) *running {
	out, stdout := io.Pipe()
	said, stderr := io.Pipe()
	r := &running{bufio.NewScanner(out), bufio.NewScanner(said), make(chan int, 1), make(chan string, 1)}
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: stdout, Stderr: stderr,
		LookupEnv: cli.Variables(map[string]string{"FERRY_CONFIG_DIR": t.TempDir(), "FERRY_REGISTRY": p.root.url,
			"FERRY_USERNAME": "admin", "FERRY_PASSWORD": p.root.password})}
	go func() {
		r.code <- cli.Run(ctx, args, env)
		stdout.Close()
		stderr.Close()
	}()
	t.Cleanup(func() {
		out.Close()
		said.Close()
	})
	return r
}

// expect reads the next line and compares its end.
func expect(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	if !lines.Scan() || !strings.HasSuffix(lines.Text(), want) {
		t.Fatalf("the next line is %q (%v), want %q", lines.Text(), lines.Err(), want)
	}
}

// rest returns the lines that follow.
func rest(lines *bufio.Scanner) (text string) {
	for lines.Scan() {
		text += lines.Text() + "\n"
	}
	return text
}

func TestWaitEndsWhenTheChildHasTheImage(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	wait := p.run(t.Context(), t, "wait", "--image", "factory/app:1.0", "--timeout", "2m")
	expect(t, wait.stderr, "0 of 1 site has factory/app:1.0 (0.0 %). 1 without it.")
	p.start(t)
	go rest(wait.stderr)
	var got api.Coverage
	if text := rest(wait.stdout); json.Unmarshal([]byte(text), &got) != nil {
		t.Errorf("the result is %q", text)
	}
	if code := <-wait.code; code != 0 || got.Sites != 1 || got.Have != 1 || got.Percent != 100 || len(got.Value) != 0 {
		t.Errorf("exit code %d, %+v", code, got)
	}
}

func TestWaitSaysOnceHowManySitesHaveTheImage(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	wait := p.run(t.Context(), t, "wait", "--image", "factory/app:1.0", "--timeout", "3s")
	go func() { wait.errors <- rest(wait.stderr) }()
	rest(wait.stdout)
	said, code := <-wait.errors, <-wait.code
	want := "0 of 1 site has factory/app:1.0 (0.0 %). 1 without it.\n" +
		"ferry: after 3s, 0 of 1 site has factory/app:1.0: want 100 %\n" +
		"hint: the result lists the others; ferry connected-registry sync-status -n SITE says more of one\n"
	if said != want || code != 1 {
		t.Errorf("it says %q, exit code %d", said, code)
	}
}

func TestWatchPrintsLinesOfChangesToAPipe(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	list := p.run(ctx, t, "connected-registry", "list", "--watch")
	status := p.run(ctx, t, "connected-registry", "sync-status", "--watch")
	expect(t, list.stdout, " ship1 Unknown NotActivated")
	expect(t, status.stdout, " ship1 Unknown NotActivated")
	p.start(t)
	for _, r := range []*running{list, status} {
		for r.stdout.Scan() && !strings.HasSuffix(r.stdout.Text(), " ship1 InSync") {
			if !strings.Contains(r.stdout.Text(), " ship1 ") {
				t.Errorf("it says %q", r.stdout.Text())
			}
		}
	}
	cancel()
	for _, r := range []*running{list, status} {
		go func() { r.errors <- rest(r.stderr) }()
		if more, said, code := rest(r.stdout), <-r.errors, <-r.code; more != "" || said != "" || code != 0 {
			t.Errorf("at the end it said %q and %q, exit code %d", more, said, code)
		}
	}
}
