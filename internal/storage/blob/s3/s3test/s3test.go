// Package s3test gives tests an object store: versitygw, which test/tools.sh installs, on
// loopback.
package s3test

import (
	"context"
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ferry/internal/storage/blob/s3"
)

// Bucket is the bucket of the object store.
const Bucket = "ferry-tests"

// A Server is an object store, which ends with the test.
type Server struct {
	Endpoint    string // its URL
	Credentials string // file with the credentials
	dir         string
}

// Start starts an object store with an empty bucket. Variable FERRY_TEST_VERSITYGW names the
// program; without it, the test is skipped, or fails in CI.
func Start(t testing.TB) *Server {
	t.Helper()
	program := os.Getenv("FERRY_TEST_VERSITYGW")
	if program == "" && os.Getenv("CI") != "" {
		t.Fatal("FERRY_TEST_VERSITYGW is not set; run make s3")
	}
	if program == "" {
		t.Skip("FERRY_TEST_VERSITYGW is not set; make s3 sets it")
	}
	s := &Server{dir: t.TempDir()}
	s.Credentials = filepath.Join(s.dir, "credentials")
	if err := os.Mkdir(filepath.Join(s.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "data", Bucket), 0o700); err != nil {
		t.Fatal(err)
	}
	secret := rand.Text()
	err := os.WriteFile(s.Credentials, []byte("[default]\naws_access_key_id = tests\naws_secret_access_key = "+secret+"\n"),
		0o600)
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "--quiet", "--port", address, "posix", filepath.Join(s.dir, "data"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID=tests", "ROOT_SECRET_ACCESS_KEY="+secret)
	log := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // it was killed
		if t.Failed() && log.Len() > 0 {
			t.Logf("versitygw: %s", log)
		}
	})
	s.Endpoint = "http://" + address
	s.await(t)
	return s
}

func freeAddress(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// await waits until the server answers.
func (s *Server) await(t testing.TB) {
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); {
		if r, err := http.Get(s.Endpoint); err == nil {
			r.Body.Close()
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("versitygw does not answer")
}

// Options describe the store below a prefix of the bucket.
func (s *Server) Options(prefix string) s3.Options {
	return s3.Options{
		Location: s3.Location{Bucket: Bucket, Prefix: prefix}, Endpoint: s.Endpoint, Region: "us-east-1",
		CredentialsFile: s.Credentials,
	}
}

// Store returns the store below a prefix of the bucket, as a process does that starts.
func (s *Server) Store(t testing.TB, prefix string) *s3.Store {
	t.Helper()
	store, err := s3.New(s.Options(prefix))
	if err != nil {
		t.Fatal(err)
	}
	return store
}
