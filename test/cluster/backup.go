package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7"
)

// Dump writes the database to a file, with pg_dump.
func (c *Cluster) Dump(t testing.TB, path string) {
	t.Helper()
	c.Database.Run(t, "pg_dump", "--format=custom", "--file="+path, c.Database.URL(c.database))
}

// Restore starts a second cluster with a database from a dump, and with the objects below a
// prefix.
func (c *Cluster) Restore(t testing.TB, dump, prefix string) *Cluster {
	t.Helper()
	const database = "restored"
	restored := &Cluster{Database: c.Database, Store: c.Store, database: database, prefix: prefix}
	c.Database.Create(t, database)
	c.Database.Run(t, "pg_restore", "--dbname="+c.Database.URL(database), "--no-owner", dump)
	dir := filepath.Join(t.TempDir(), "data")
	copyFiles(t, c.Processes[0].DataDir, dir)
	restored.serve(t, Options{DataDir: dir})
	return restored
}

// copyFiles copies the files of a directory, and leaves out its sockets.
func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	files, err := os.ReadDir(from)
	if err == nil {
		err = os.Mkdir(to, 0o700)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !f.Type().IsRegular() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, f.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Copy copies the objects below a prefix that are not below another one yet, except unfinished
// uploads, and deletes none.
func (s *Store) Copy(t testing.TB, from, to string) {
	t.Helper()
	ctx := t.Context()
	present, err := s.Objects(ctx, to)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.Objects(ctx, from)
	if err != nil {
		t.Fatal(err)
	}
	client, err := s.client()
	if err != nil {
		t.Fatal(err)
	}
	for key := range all {
		if _, ok := present[key]; ok || strings.HasPrefix(key, "partials/") {
			continue
		}
		_, err := client.CopyObject(ctx, minio.CopyDestOptions{Bucket: Bucket, Object: to + "/" + key},
			minio.CopySrcOptions{Bucket: Bucket, Object: from + "/" + key})
		if err != nil {
			t.Fatal(err)
		}
	}
}
