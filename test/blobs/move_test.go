//go:build s3

package blobs_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/internal/storage/blob/s3/s3test"
	"ferry/test/image"
	"ferry/test/instance"
)

// A mover is an instance that can be moved to a bucket and back.
type mover struct {
	dir, endpoint string
	store         *s3test.Server
	images        map[string]*image.Image // by repository
	seed          uint64                  // of the next image that move pushes: no two have the same blobs
}

func newMover(t *testing.T) *mover {
	store := s3test.Start(t)
	return &mover{
		dir: filepath.Join(t.TempDir(), "data"), endpoint: store.Endpoint, store: store,
		images: map[string]*image.Image{},
	}
}

func (m *mover) bucket() string { return "s3://" + m.store.Bucket + "/root" }

// settings returns the flags of the bucket, after "--blobs" or "--to".
func (m *mover) settings(prefix string) []string {
	return []string{prefix, m.bucket(), prefix + "-endpoint", m.endpoint, prefix + "-region", "us-east-1",
		prefix + "-credentials-file", m.store.Credentials}
}

// start starts the instance with its blobs in the bucket, or in files.
func (m *mover) start(t *testing.T, inBucket bool) *instance.Instance {
	t.Helper()
	s, err := m.tryStart(t, inBucket)
	if err != nil {
		t.Fatalf("%v\n%s", err, s.Log())
	}
	return s
}

func (m *mover) tryStart(t *testing.T, inBucket bool) (*instance.Instance, error) {
	t.Helper()
	o := instance.Options{DataDir: m.dir}
	if inBucket {
		o.Args = m.settings("--blobs")
	}
	return instance.Try(t, o)
}

// refused fails the test unless the instance does not start, with a hint.
func (m *mover) refused(t *testing.T, inBucket bool, want string) {
	t.Helper()
	s, err := m.tryStart(t, inBucket)
	if err == nil || !strings.Contains(s.Log(), want) || !strings.Contains(s.Log(), "ferry blobs copy --to") {
		t.Fatalf("it starts, or says something else than %q: %v\n%s", want, err, s.Log())
	}
}

// command returns the command that copies the blobs to the bucket, or to files.
func (m *mover) command(t *testing.T, toBucket bool, args ...string) *exec.Cmd {
	all := []string{"blobs", "copy", "--data-dir", m.dir}
	if toBucket {
		all = append(all, m.settings("--to")...)
	} else {
		all = append(append(all, m.settings("--blobs")...), "--to", "files")
	}
	return exec.Command(instance.Binary(t), append(all, args...)...)
}

// A copied is the command's result.
type copied struct {
	From, To                      string
	Blobs, Copied                 int
	Damaged                       []struct{ Digest, Reason string }
	PartialsCopied, PartialsEnded int
	Final                         bool
}

func (m *mover) copy(t *testing.T, toBucket bool, args ...string) (c copied, err error) {
	t.Helper()
	out, err := instance.Output(m.command(t, toBucket, args...))
	if err == nil {
		err = json.Unmarshal([]byte(out), &c)
	}
	return c, err
}

// push pushes a new image, and pulls one that was pushed before.
func (m *mover) push(t *testing.T, l instance.Login, repo string, seed uint64) {
	t.Helper()
	i := image.New(t, image.Options{Seed: seed, Layers: []int64{1000, 200_000, int64(seed%4) << 20}})
	if err := pushPatiently(t.Context(), l, repo, i); err != nil {
		t.Fatal(err)
	}
	m.images[repo] = i
	m.pull(t, l, repo)
}

func (m *mover) pull(t *testing.T, l instance.Login, repo string) {
	t.Helper()
	want := m.images[repo]
	if got, err := l.Pull(t.Context(), repo, want.Tag); err != nil || got != want.Digest {
		t.Fatalf("pulled %s of %s, %v; want %s", got, repo, err, want.Digest)
	}
}

// pullAll pulls all images that were pushed.
func (m *mover) pullAll(t *testing.T, l instance.Login) {
	t.Helper()
	for repo := range m.images {
		m.pull(t, l, repo)
	}
}

// move moves the instance s, while it serves pushes and pulls, and returns it as it is started afterwards.
func (m *mover) move(t *testing.T, s *instance.Instance, name string, toBucket bool) *instance.Instance {
	t.Helper()
	l := s.AsAdmin(t)
	upload, content := m.beginUpload(t, l, name), []byte("an upload of "+name)
	done := make(chan error, 1)
	go func() {
		_, err := m.copy(t, toBucket)
		done <- err
	}()
	for running := true; running; m.seed++ {
		m.push(t, l, name+"/"+string(rune('a'+m.seed%8)), m.seed)
		select {
		case err := <-done:
			if running = false; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	m.push(t, l, name+"/last", m.seed)
	m.seed++
	if _, err := m.copy(t, toBucket, "--final"); err == nil || !strings.Contains(err.Error(), "the instance runs") {
		t.Fatalf("the final copy of an instance that runs: %v", err)
	}
	s.Stop(t)
	m.refused(t, toBucket, "not finished")
	c, err := m.copy(t, toBucket, "--final")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if !c.Final || c.PartialsCopied != 1 || c.PartialsEnded != 0 || len(c.Damaged) > 0 || c.Copied == 0 {
		t.Errorf("the final copy was %+v", c)
	}
	m.refused(t, !toBucket, "the blobs of this instance are in")
	_, err = m.copy(t, toBucket)
	if err == nil || !strings.Contains(err.Error(), "the blobs of this instance are in") {
		t.Errorf("a copy from the store before: %v", err)
	}
	s = m.start(t, toBucket)
	l = s.AsAdmin(t)
	m.pullAll(t, l)
	m.endUpload(t, l, name, upload, content)
	return s
}

const begun = 10 // bytes of an upload that are sent before the copy

func (m *mover) beginUpload(t *testing.T, l instance.Login, name string) (location string) {
	t.Helper()
	location, err := l.StartUpload(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return m.patch(t, l, location, []byte("an upload of " + name)[:begun])
}

func (m *mover) patch(t *testing.T, l instance.Login, location string, content []byte) string {
	t.Helper()
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := l.Do(t.Context(), http.MethodPatch, location, header, bytes.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

func (m *mover) endUpload(t *testing.T, l instance.Login, name, location string, content []byte) {
	t.Helper()
	if strings.HasPrefix(location, "http") { // the instance has another port now
		_, rest, _ := strings.Cut(location, "/v2/")
		location = "/v2/" + rest
	}
	header, rest := http.Header{"Content-Type": {"application/octet-stream"}}, content[begun:]
	d := digest.FromBytes(content)
	resp, err := l.Do(t.Context(), http.MethodPut, instance.WithDigest(location, d), header, bytes.NewReader(rest),
		int64(len(rest)))
	if err != nil {
		t.Fatalf("the upload does not continue: %v", err)
	}
	resp.Body.Close()
	if err := l.PullBlob(t.Context(), name, d); err != nil {
		t.Error(err)
	}
}

// TestAnInstanceMovesToABucketAndBack is the guide of docs/install/object-store.md.
func TestAnInstanceMovesToABucketAndBack(t *testing.T) {
	m := newMover(t)
	s := m.start(t, false)
	l := s.AsAdmin(t)
	for ; m.seed < 4; m.seed++ {
		m.push(t, l, "first/"+string(rune('a'+m.seed)), m.seed)
	}
	s.Stop(t)
	m.refused(t, true, "belongs to no instance")
	s = m.move(t, m.start(t, false), "there", true)
	m.move(t, s, "back", false)
}

// TestDamagedBlobKeepsTheInstanceWhereItIs shows that a blob is not lost silently.
func TestDamagedBlobKeepsTheInstanceWhereItIs(t *testing.T) {
	m := newMover(t)
	s := m.start(t, false)
	m.push(t, s.AsAdmin(t), "app", 1)
	layer := m.images["app"].Manifest.Layers[1].Digest
	path := filepath.Join(m.dir, "blobs", "sha256", layer.Encoded())
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, append([]byte("damaged"), content[7:]...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	c, err := m.copy(t, true)
	if err != nil || len(c.Damaged) != 1 || c.Damaged[0].Digest != layer.String() || c.Final {
		t.Errorf("the copy was %+v, %v", c, err)
	}
	s.Stop(t)
	_, err = m.copy(t, true, "--final")
	var failed *instance.CommandError
	if !errors.As(err, &failed) || !strings.Contains(failed.Output, layer.String()) ||
		!strings.Contains(failed.Output, "hint: ") {
		t.Errorf("the final copy: %v", err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s = m.start(t, false)
	m.pullAll(t, s.AsAdmin(t))
	s.Stop(t)
	if c, err := m.copy(t, true, "--final"); err != nil || !c.Final {
		t.Errorf("the final copy of what was repaired: %+v, %v", c, err)
	}
	m.pullAll(t, m.start(t, true).AsAdmin(t))
}
