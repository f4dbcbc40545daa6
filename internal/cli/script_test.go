package cli_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"ferry/internal/cli"
	"ferry/internal/fleet/fleettest"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata/script")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"ferry": func() {
			env := &cli.Env{Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, LookupEnv: os.LookupEnv}
			os.Exit(cli.Run(context.Background(), os.Args[1:], env))
		},
	})
}

// The scripts read like documentation: each uses a verb as a person would. Besides ferry
// itself, they have these commands:
//
//	serve NAME [flags]        start an instance in this process; set $NAME_URL, _HOST, _PASSWORD
//	stop NAME                 stop it
//	proxy NAME INSTANCE PATH [strip]  start a proxy that forwards PATH to an instance, with or
//	                          without the path; NAME is then an instance, too
//	image DIR TAG             make a small image as an image layout
//	push NAME REPOSITORY:TAG  push a small image, as admin
//	pull URL USER PASSWORD REPOSITORY:TAG   pull an image with all its blobs
//	eventually COMMAND...     repeat a command until it succeeds, for at most a minute
//	exits CODE ferry ...      run ferry and check its exit code
//	scrub FILE                write standard output to FILE without times, passwords and digests
//	setenv NAME FILE          set a variable to a file's first line
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FERRY_CONFIG_DIR", filepath.Join(env.WorkDir, ".config"))
			// Otherwise, the race detector makes each ferry sleep for a second at its end.
			env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
			env.Setenv("GOGC", "400") // most commands end before their first collection
			env.Values["instances"] = map[string]*instance{}
			env.Defer(func() {
				for _, i := range env.Values["instances"].(map[string]*instance) {
					_ = i.stop() // if the error matters, the script has failed already
				}
			})
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"serve": func(ts *testscript.TestScript, neg bool, args []string) {
				i, err := start(ts.MkAbs(args[0]), args[1:])
				ts.Check(err)
				ts.Value("instances").(map[string]*instance)[args[0]] = i
				ts.Setenv(args[0]+"_URL", i.url)
				ts.Setenv(args[0]+"_HOST", i.url[strings.LastIndex(i.url, "/")+1:])
				ts.Setenv(args[0]+"_PASSWORD", i.password)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]+".password"), []byte(i.password+"\n"), 0o600))
			},
			"proxy": func(ts *testscript.TestScript, neg bool, args []string) {
				all := ts.Value("instances").(map[string]*instance)
				i := forward(all[args[1]], args[2], len(args) > 3)
				all[args[0]] = i
				ts.Setenv(args[0]+"_URL", i.url)
				ts.Setenv(args[0]+"_HOST", strings.TrimPrefix(i.url, "http://"))
			},
			"stop": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(ts.Value("instances").(map[string]*instance)[args[0]].stop())
			},
			"push": func(ts *testscript.TestScript, neg bool, args []string) {
				i := ts.Value("instances").(map[string]*instance)[args[0]]
				for _, image := range args[1:] {
					ts.Check(push(i.url, "admin", i.password, image))
				}
			},
			"pull": func(ts *testscript.TestScript, neg bool, args []string) {
				err := pull(args[0], args[1], args[2], args[3])
				if neg == (err == nil) {
					ts.Fatalf("pull: %v", err)
				}
			},
			"image": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(pack(ts.MkAbs(args[0]), args[1]))
			},
			"eventually": eventually,
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				err = ts.Exec(args[1], args[2:]...)
				code := 0
				var exit *exec.ExitError
				if errors.As(err, &exit) {
					code = exit.ExitCode()
				} else {
					ts.Check(err)
				}
				if code != want {
					ts.Fatalf("exit code %d, want %d", code, want)
				}
			},
			"scrub": func(ts *testscript.TestScript, neg bool, args []string) {
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(scrub(ts.ReadFile("stdout"))), 0o600))
			},
			"setenv": func(ts *testscript.TestScript, neg bool, args []string) {
				line, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
				ts.Setenv(args[0], strings.TrimRight(line, "\r"))
			},
		},
	})
}

// scrub replaces text that differs from run to run.
func scrub(s string) string {
	for _, r := range []struct{ pattern, with string }{
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "2031-05-06T07:08:09Z"},
		{`ferry_[A-Za-z0-9_]{20,}`, "PASSWORD"},
		{`127\.0\.0\.1:\d+`, "HOST"},
		{`sha256:[0-9a-f]{64}`, "DIGEST"},
	} {
		s = regexp.MustCompile(r.pattern).ReplaceAllString(s, r.with)
	}
	return s
}

// eventually repeats a command of the script until it succeeds.
func eventually(ts *testscript.TestScript, neg bool, args []string) {
	deadline := time.Now().Add(time.Minute)
	for {
		var err error
		if args[0] == "pull" {
			err = pull(args[1], args[2], args[3], args[4])
		} else {
			err = ts.Exec(args[0], args[1:]...)
		}
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("%s: %v", strings.Join(args, " "), err)
		}
		time.Sleep(50 * time.Millisecond) // waits for another process
	}
}

// An instance is `ferry serve`, in this process.
type instance struct {
	url      string
	password string
	cancel   context.CancelFunc
	done     chan error
}

var servesAt = regexp.MustCompile(`https?://127\.0\.0\.1:\d+`)

// start starts `ferry serve` with its data in dir, and waits until it prints its address. A root's
// first start would spend most of its time on its tables and on the password of admin.
func start(dir string, flags []string) (*instance, error) {
	isConnected := func(flag string) bool { return strings.HasPrefix(flag, "--connection-string") }
	if !slices.ContainsFunc(flags, isConnected) {
		if err := fleettest.PrepareRoot(dir); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	i := &instance{cancel: cancel, done: make(chan error, 1)}
	out, in := io.Pipe()
	var stderr strings.Builder
	go func() {
		args := append([]string{"serve", "--data-dir", dir, "--listen", "127.0.0.1:0"}, flags...)
		env := &cli.Env{Stdin: strings.NewReader(""), Stdout: in, Stderr: &stderr,
			LookupEnv: cli.Variables(nil)}
		var err error
		if code := cli.Run(ctx, args, env); code != 0 {
			err = fmt.Errorf("ferry serve: exit code %d: %s", code, &stderr)
		}
		in.CloseWithError(io.EOF)
		i.done <- err
	}()
	var said strings.Builder
	buf := make([]byte, 1024)
	for i.url == "" {
		n, err := out.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			return nil, errors.Join(<-i.done, fmt.Errorf("it said %q", &said))
		}
		i.url = servesAt.FindString(said.String())
	}
	go io.Copy(io.Discard, out)
	password, err := os.ReadFile(filepath.Join(dir, "initial-admin-password"))
	i.password = strings.TrimSpace(string(password))
	return i, err
}

// startInstance starts an instance that is stopped when the test ends.
func startInstance(t *testing.T, dir string, flags ...string) *instance {
	t.Helper()
	i, err := start(dir, flags)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := i.stop(); err != nil {
			t.Error(err)
		}
	})
	return i
}

// forward starts a reverse proxy that forwards the requests below path to an instance, and
// returns it as an instance.
func forward(to *instance, path string, strip bool) *instance {
	target, err := url.Parse(to.url)
	if err != nil {
		panic(err) // it is the URL of a listener
	}
	var proxy http.Handler = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.SetXForwarded()
		if strip {
			r.Out.Header.Set("X-Forwarded-Prefix", path)
		}
	}}
	if strip {
		proxy = http.StripPrefix(path, proxy)
	}
	mux := http.NewServeMux()
	mux.Handle(path+"/", proxy)
	srv := httptest.NewServer(mux)
	i := &instance{url: srv.URL + path, password: to.password, done: make(chan error, 1)}
	i.cancel = func() {
		srv.Close()
		i.done <- nil
	}
	return i
}

func (i *instance) stop() error {
	i.cancel()
	err := <-i.done
	i.done <- nil // stopping twice is no error
	return err
}

// request makes a request and returns the body of the answer. An error has the server's
// message.
func request(method, url, user, password, contentType string, body io.Reader, size int64) ([]byte, http.Header, error) {
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, nil, err
	}
	if body != nil {
		req.ContentLength = size
		req.Header.Set("Content-Type", contentType)
	}
	req.SetBasicAuth(user, password)
	req.Header.Set("Accept", "*/*")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	return text, resp.Header, err
}
