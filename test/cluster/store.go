package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"

	"ferry/internal/storage/blob/s3/s3test"
)

// The login and the names of every [Store].
const (
	AccessKey = s3test.AccessKey
	SecretKey = s3test.SecretKey
	Region    = s3test.Region
	Bucket    = "registry"
)

// A Store is an S3 store with one bucket, which a test can kill and start, behind a proxy that
// causes faults.
type Store struct {
	*s3test.Server
	Endpoint string // http://127.0.0.1:PORT of the proxy
	Direct   string // of the server itself, without faults

	faults faultProxy
}

// StartStore starts a store without faults. It stops with the test.
func StartStore(t testing.TB) *Store {
	t.Helper()
	dir, err := os.MkdirTemp(memory(), "ferry-s3-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	bucket := filepath.Join(dir, Bucket)
	if err := os.Mkdir(bucket, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &Store{Server: s3test.Serve(t, bucket, "--keep-alive")}
	s.Direct = s.Server.Endpoint
	s.Endpoint = s.faults.start(t, s.Direct)
	return s
}

// memory returns a directory in memory if the machine has one.
func memory() string {
	if _, err := os.Stat("/dev/shm"); err != nil {
		return ""
	}
	return "/dev/shm"
}

// Env returns the environment in which `ferry serve` keeps its objects below a prefix of the store.
func (s *Store) Env(prefix string) []string {
	return []string{
		"FERRY_BLOBS=s3://" + Bucket + "/" + prefix, "FERRY_BLOBS_ENDPOINT=" + s.Endpoint,
		"FERRY_BLOBS_REGION=" + Region, "FERRY_BLOBS_CREDENTIALS_FILE=" + s.Credentials,
	}
}

// SetFaults makes the store fail, as a seed decides.
func (s *Store) SetFaults(f Faults, seed uint64) { s.faults.set(f, seed) }

// Failed returns how many requests failed because of [Faults] so far.
func (s *Store) Failed() int { return s.faults.count() }

// Links returns the counts of requests by links so far.
func (s *Store) Links() Links {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return s.faults.links
}

// Sizes returns the sizes of the objects below a prefix, by their keys without it.
func (s *Store) Sizes(ctx context.Context, prefix string) (map[string]int64, error) {
	objects := map[string]int64{}
	all := minio.ListObjectsOptions{Prefix: prefix + "/", Recursive: true}
	for o := range s.Client().ListObjectsIter(ctx, Bucket, all) {
		if o.Err != nil {
			return nil, o.Err
		}
		objects[strings.TrimPrefix(o.Key, prefix+"/")] = o.Size
	}
	return objects, nil
}
