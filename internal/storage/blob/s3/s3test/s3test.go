// Package s3test gives tests an object store: versitygw, which test/tools.sh installs, on
// loopback.
package s3test

import (
	"errors"
	"net"
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

// The login and the region of every [Server].
const (
	AccessKey = "tests"
	SecretKey = "secret-of-tests"
	Region    = "us-east-1"
)

// A Server is an object store with one bucket, which a test can kill and start again.
type Server struct {
	Endpoint    string // http://127.0.0.1:PORT
	Credentials string // file with the login, in Amazon's form
	Bucket      string

	dir     string // has a directory for each bucket
	program string
	args    []string
	cmd     *exec.Cmd
	log     strings.Builder
}

// Start starts an object store with an empty bucket. It ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return Serve(t, t.TempDir())
}

// Serve is [Start] for the bucket in a directory: each object is a file in it with the name of
// its key. args are more arguments of versitygw. Another call returns a server of the same objects
// that cannot be killed.
func Serve(t testing.TB, dir string, args ...string) *Server {
	t.Helper()
	parent, bucket := filepath.Split(filepath.Clean(dir))
	s := &Server{Credentials: filepath.Join(parent, "credentials-of-"+bucket), Bucket: bucket, dir: parent, args: args}
	running := filepath.Join(parent, "server-of-"+bucket)
	if endpoint, err := os.ReadFile(running); err == nil {
		s.Endpoint = string(endpoint)
		return s
	}
	s.program, s.Endpoint = program(t), "http://"+freeAddress(t)
	write(t, s.Credentials, "[default]\naws_access_key_id = "+AccessKey+"\naws_secret_access_key = "+SecretKey+"\n")
	write(t, running, s.Endpoint)
	t.Cleanup(func() {
		s.Kill(t)
		_ = os.Remove(running)
		if t.Failed() {
			t.Logf("versitygw: %s", &s.log)
		}
	})
	s.Start(t)
	return s
}

// Start starts the server again after a kill, and returns once it accepts connections.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	address := strings.TrimPrefix(s.Endpoint, "http://")
	args := append([]string{"--quiet", "--port", address, "--region", Region}, s.args...)
	s.cmd = exec.Command(s.program, append(args, "posix", s.dir)...)
	s.cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY_ID="+AccessKey, "ROOT_SECRET_ACCESS_KEY="+SecretKey)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 1500 {
		if conn, err := net.Dial("tcp", address); err == nil {
			conn.Close()
			return
		}
		<-tick.C
	}
	t.Fatal("versitygw does not answer")
}

// Kill ends the server as a power cut does. Its objects stay.
func (s *Server) Kill(testing.TB) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait() // it was killed
	s.cmd = nil
}

// program returns the path of versitygw in .tools.
func program(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		path := filepath.Join(dir, ".tools", "versitygw")
		if _, err := os.Stat(path); err == nil {
			return path
		}
		dir = filepath.Dir(dir)
	}
	t.Fatal(errors.Join(err, errors.New("versitygw is not installed: test/tools.sh versitygw")))
	return ""
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

// Options describe the store below a prefix of the bucket.
func (s *Server) Options(prefix string) s3.Options {
	return s3.Options{
		Location: s3.Location{Bucket: s.Bucket, Prefix: prefix}, Endpoint: s.Endpoint, Region: Region,
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
	client := s.Client()
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
func (s *Server) Client() *minio.Client {
	client, err := minio.New(strings.TrimPrefix(s.Endpoint, "http://"), &minio.Options{
		Creds: credentials.NewStaticV4(AccessKey, SecretKey, ""), Region: Region,
		BucketLookup: minio.BucketLookupPath,
	})
	if err != nil {
		panic(err) // the options are right
	}
	return client
}
