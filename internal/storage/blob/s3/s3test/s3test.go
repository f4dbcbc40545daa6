// Package s3test gives tests an object store: versitygw, which test/tools.sh installs, on
// loopback.
package s3test

import (
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"ferry/internal/storage/blob/s3"
)

// A Server is an object store, which ends with the test.
type Server struct {
	Endpoint    string // its URL
	Credentials string // file with the credentials
	Bucket      string
}

const accessKey = "tests"

// Start starts an object store with an empty bucket. Variable FERRY_TEST_VERSITYGW names the
// program. Tests that need it have the build tag s3.
func Start(t testing.TB) *Server {
	t.Helper()
	return Serve(t, t.TempDir())
}

// Serve is [Start] for the bucket in a directory: each object is a file in it with the name of
// its key. A second call returns the same server.
func Serve(t testing.TB, dir string) *Server {
	t.Helper()
	program := os.Getenv("FERRY_TEST_VERSITYGW")
	if program == "" {
		t.Fatal("FERRY_TEST_VERSITYGW is not set; make s3 sets it")
	}
	parent, bucket := filepath.Split(dir)
	s := &Server{Credentials: filepath.Join(parent, "credentials-of-"+bucket), Bucket: bucket}
	running := filepath.Join(parent, "server-of-"+bucket)
	if endpoint, err := os.ReadFile(running); err == nil {
		s.Endpoint = string(endpoint)
		return s
	}
	secret, address := rand.Text(), freeAddress(t)
	s.Endpoint = "http://" + address
	write(t, s.Credentials, "[default]\naws_access_key_id = "+accessKey+"\naws_secret_access_key = "+secret+"\n")
	write(t, running, s.Endpoint)
	cmd := exec.Command(program, "--quiet", "--port", address, "posix", parent)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+accessKey, "ROOT_SECRET_ACCESS_KEY="+secret)
	log := new(strings.Builder)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		_ = os.Remove(running)
		if t.Failed() {
			t.Logf("versitygw: %s", log)
		}
	})
	s.await(t)
	return s
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
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
		Location: s3.Location{Bucket: s.Bucket, Prefix: prefix}, Endpoint: s.Endpoint, Region: "us-east-1",
		CredentialsFile: s.Credentials,
	}
}

// Store returns the store below a prefix of the bucket, as a process does that starts.
func (s *Server) Store(t testing.TB, prefix string) *s3.Store {
	t.Helper()
	return New(t, s.Options(prefix))
}

// New returns the store that o describes.
func New(t testing.TB, o s3.Options) *s3.Store {
	t.Helper()
	store, err := s3.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// Objects returns the keys of all objects below a prefix of the bucket, without the prefix, and after
// them those of multipart uploads that were not completed, with "?uploads" at the end.
func (s *Server) Objects(t testing.TB, prefix string) (keys []string) {
	t.Helper()
	client := s.Client(t)
	below := minio.ListObjectsOptions{Prefix: prefix + "/", Recursive: true}
	for o := range client.ListObjectsIter(t.Context(), s.Bucket, below) {
		if o.Err != nil {
			t.Fatal(o.Err)
		}
		keys = append(keys, strings.TrimPrefix(o.Key, prefix+"/"))
	}
	for u := range client.ListIncompleteUploads(t.Context(), s.Bucket, prefix+"/", true) {
		if u.Err != nil {
			t.Fatal(u.Err)
		}
		keys = append(keys, strings.TrimPrefix(u.Key, prefix+"/")+"?uploads")
	}
	return keys
}

// Client returns a client of the server.
func (s *Server) Client(t testing.TB) *minio.Client {
	t.Helper()
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewFileAWSCredentials(s.Credentials, ""), Region: "us-east-1",
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}
