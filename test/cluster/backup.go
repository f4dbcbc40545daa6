package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ferry/internal/control"

	"github.com/minio/minio-go/v7"
)

// Dump writes the database to a file, with pg_dump.
func (c *Cluster) Dump(t testing.TB, path string) {
	t.Helper()
	c.Database.Run(t, "pg_dump", "--format=custom", "--file="+path, c.Database.URL(c.database))
}

// Restore starts a second cluster with a database from a dump, and with the objects below a
// prefix, and with no data directory.
func (c *Cluster) Restore(t testing.TB, dump, prefix string) *Cluster {
	t.Helper()
	const database = "restored"
	restored := &Cluster{Database: c.Database, Store: c.Store, database: database, prefix: prefix, secret: c.secret}
	c.Database.Create(t, database)
	c.Database.Run(t, "pg_restore", "--dbname="+c.Database.URL(database), "--no-owner", dump)
	dir := filepath.Join(t.TempDir(), "data")
	text := c.Root().AdminPassword(t) // for the test; a new process needs no file of an old one
	err := os.Mkdir(dir, 0o700)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, control.PasswordFile), []byte(text), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	restored.serve(t, Options{DataDir: dir})
	return restored
}

// Copy copies the objects below a prefix that are not below another one yet, except unfinished
// uploads, and deletes none.
func (s *Store) Copy(t testing.TB, from, to string) {
	t.Helper()
	ctx := t.Context()
	present, err := s.Sizes(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Sizes(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	for key := range all {
		if _, ok := present[key]; ok || strings.HasPrefix(key, "partials/") {
			continue
		}
		_, err := s.Client().CopyObject(ctx, minio.CopyDestOptions{Bucket: Bucket, Object: to + "/" + key},
			minio.CopySrcOptions{Bucket: Bucket, Object: from + "/" + key})
		if err != nil {
			t.Fatal(err)
		}
	}
}
