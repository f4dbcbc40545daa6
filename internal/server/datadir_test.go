package server_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"ferry/internal/config"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
	"ferry/internal/server"
)

// start serves until it is ready, and returns the error that stopped it.
func start(t *testing.T, cfg config.Config, o server.Options) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	o.Ready = func(server.Ready) { cancel() }
	return server.Run(ctx, cfg, o)
}

// makeFilledRoot makes a root with one blob, and returns the blob's digest.
func makeFilledRoot(t *testing.T, cfg config.Config) digest.Digest {
	t.Helper()
	r, stop := run(t, cfg)
	content := "content of " + cfg.DataDir
	d := digest.FromString(content)
	req, err := http.NewRequestWithContext(t.Context(), "POST",
		r.URL+"/v2/apps/blobs/uploads/?digest="+string(d), strings.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("admin", passwordOf(t, r))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	if resp.Body.Close(); resp.StatusCode != 201 {
		t.Fatalf("push: %d %s", resp.StatusCode, body)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	return d
}

// contentOf returns the files below dir with their contents.
func contentOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		all[strings.TrimPrefix(path, dir)] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestDatabaseOfAnotherDirectoryIsRefused(t *testing.T) {
	remove := func(t *testing.T, dir string, names ...string) {
		t.Helper()
		for _, name := range names {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, cfg *config.Config)
		want   string
	}{
		{"the SQLite file is deleted", func(t *testing.T, cfg *config.Config) {
			remove(t, cfg.DataDir, "ferry.db", "ferry.db-wal", "ferry.db-shm")
		}, "the database is empty, and the data directory"},
		{"the SQLite file is cut to nothing", func(t *testing.T, cfg *config.Config) {
			if err := os.Truncate(filepath.Join(cfg.DataDir, "ferry.db"), 0); err != nil {
				t.Fatal(err)
			}
		}, "the database is empty, and the data directory"},
		{"PostgreSQL is empty", func(t *testing.T, cfg *config.Config) {
			cfg.Database = dbtest.PostgresURL(t)
		}, "the database is empty, and the data directory"},
		{"the database is that of another root", func(t *testing.T, cfg *config.Config) {
			other := configIn(t.TempDir())
			makeFilledRoot(t, other)
			cfg.Database = "sqlite:" + filepath.Join(other.DataDir, "ferry.db")
		}, "the database belongs to instance"},
		{"the volume of the data directory is not mounted", func(t *testing.T, cfg *config.Config) {
			cfg.Database = "sqlite:" + filepath.Join(cfg.DataDir, "ferry.db")
			cfg.DataDir = t.TempDir()
		}, "is empty: they do not belong together"},
		{"the volume of the blobs is not mounted", func(t *testing.T, cfg *config.Config) {
			remove(t, cfg.DataDir, "blobs/sha256", "blobs/sha512")
		}, "the database knows blobs, and there is nothing in"},
		{"the data directory's id is lost", func(t *testing.T, cfg *config.Config) {
			remove(t, cfg.DataDir, "instance-id")
		}, "has content, but no instance-id"},
		{"both are lost, but for the blobs", func(t *testing.T, cfg *config.Config) {
			remove(t, cfg.DataDir, "instance-id", "ferry.db", "ferry.db-wal", "ferry.db-shm")
		}, "the database is empty, and the data directory"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cfg := configIn(t.TempDir())
			d := makeFilledRoot(t, cfg)
			test.damage(t, &cfg)
			before := contentOf(t, cfg.DataDir)
			err := start(t, cfg, server.Options{})
			var h interface{ Hint() string }
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want one with %q", err, test.want)
			}
			if !errors.As(err, &h) || !strings.Contains(h.Hint(), "--adopt") {
				t.Errorf("no hint for %v", err)
			}
			after := contentOf(t, cfg.DataDir)
			delete(after, "/lock") // a new directory has a lock, too
			delete(before, "/lock")
			for name, content := range before {
				if after[name] != content {
					t.Errorf("%s was changed", name)
				}
			}
			if len(after) != len(before) {
				t.Errorf("files were made or deleted: %v", after)
			}

			if err := start(t, cfg, server.Options{Adopt: true}); err != nil {
				t.Fatalf("with --adopt: %v", err)
			}
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Errorf("after --adopt: %v", err)
			}
			path := filepath.Join(cfg.DataDir, "blobs", "sha256", d.Encoded())
			if _, err := os.Stat(path); (err == nil) != (before["/blobs/sha256/"+d.Encoded()] != "") {
				t.Errorf("the blob's file after --adopt: %v", err)
			}
		})
	}
}

func TestRestoredDatabaseServesAgain(t *testing.T) {
	cfg := configIn(t.TempDir())
	d := makeFilledRoot(t, cfg)
	path, away := filepath.Join(cfg.DataDir, "ferry.db"), filepath.Join(t.TempDir(), "ferry.db")
	if err := os.Rename(path, away); err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfg, server.Options{}); err == nil {
		t.Fatal("it starts without its database")
	}
	if err := os.Rename(away, path); err != nil {
		t.Fatal(err)
	}
	r, _ := run(t, cfg)
	if status, body := get(t, r.URL+"/v2/apps/blobs/"+string(d), "admin", passwordOf(t, r)); status != 200 {
		t.Errorf("the blob: %d %s", status, body)
	}
}

// TestCrashedFirstStartContinues starts from the states that a crash leaves before and
// after the database gets its id.
func TestCrashedFirstStartContinues(t *testing.T) {
	for name, inDatabase := range map[string]bool{"before the database": false, "after it": true} {
		t.Run(name, func(t *testing.T) {
			cfg := configIn(t.TempDir())
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Fatal(err)
			}
			id := filepath.Join(cfg.DataDir, "instance-id")
			if err := os.Rename(id, id+".new"); err != nil {
				t.Fatal(err)
			}
			if !inDatabase {
				if err := os.Remove(filepath.Join(cfg.DataDir, "ferry.db")); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(id + ".new")
			if err != nil {
				t.Fatal(err)
			}
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(id); string(got) != string(want) || err != nil {
				t.Errorf("the id is %q, %v; want %q", got, err, want)
			}
			if _, err := os.Stat(id + ".new"); err == nil {
				t.Error("the first start has not ended")
			}
		})
	}
}

func TestMissingSettingsAreReportedBeforeTheyAreReplaced(t *testing.T) {
	for _, setting := range []string{"instance-id", "role"} {
		t.Run(setting, func(t *testing.T) {
			cfg := configIn(t.TempDir())
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Fatal(err)
			}
			db, err := metadb.Open(t.Context(), "sqlite:"+filepath.Join(cfg.DataDir, "ferry.db"))
			if err != nil {
				t.Fatal(err)
			}
			err = db.Update(t.Context(), func(tx *metadb.Tx) error { return tx.SetSetting(setting, "") })
			if err := errors.Join(err, db.Close()); err != nil {
				t.Fatal(err)
			}
			err = start(t, cfg, server.Options{})
			if err == nil || !strings.Contains(err.Error(), "no "+setting) {
				t.Errorf("error %v, want one about %s", err, setting)
			}
			if err := start(t, cfg, server.Options{Adopt: true}); err != nil {
				t.Errorf("with --adopt: %v", err)
			}
			if err := start(t, cfg, server.Options{}); err != nil {
				t.Errorf("after --adopt: %v", err)
			}
		})
	}
}

func TestOnlyTheOwnerCanReadTheDataDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil { // the mode of directories from systemd and of volumes
		t.Fatal(err)
	}
	cfg := configIn(dir)
	makeFilledRoot(t, cfg)
	var log strings.Builder
	for _, name := range []string{"", "ferry.db", "signing.key"} {
		if err := os.Chmod(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	key, err := os.ReadFile(filepath.Join(dir, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := start(t, cfg, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("others may use %s: %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for _, want := range []string{"others could enter the data directory", "others could read the signing key"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, &log)
		}
	}
	if again, err := os.ReadFile(filepath.Join(dir, "signing.key")); string(again) == string(key) || err != nil {
		t.Errorf("the key that others could read is still in use, %v", err)
	}
}

func TestTheSigningKeyIsNotInTheDatabase(t *testing.T) {
	cfg := configIn(t.TempDir())
	if err := start(t, cfg, server.Options{}); err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(cfg.DataDir, "signing.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ferry.db", "ferry.db-wal"} {
		content, err := os.ReadFile(filepath.Join(cfg.DataDir, name))
		if err == nil && strings.Contains(string(content), strings.TrimSpace(string(key))) {
			t.Errorf("the key is in %s", name)
		}
	}
	if err := start(t, cfg, server.Options{}); err != nil {
		t.Fatal(err)
	}
	if again, err := os.ReadFile(filepath.Join(cfg.DataDir, "signing.key")); string(again) != string(key) ||
		err != nil {
		t.Errorf("a restart changed the key, %v", err)
	}
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "signing.key"), []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	var h interface{ Hint() string }
	if err := start(t, cfg, server.Options{}); !errors.As(err, &h) || !strings.Contains(err.Error(), "signing.key") {
		t.Errorf("with a key that cannot be read: %v", err)
	}
}

func TestReplacedKeysAreLogged(t *testing.T) {
	cfg := configIn(t.TempDir())
	for boot, missing := range [][]string{nil, {"signing.key"}, {"mirror.key"}, nil} {
		for _, name := range missing {
			if err := os.Remove(filepath.Join(cfg.DataDir, name)); err != nil {
				t.Fatal(err)
			}
		}
		var log strings.Builder
		if err := start(t, cfg, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}); err != nil {
			t.Fatal(err)
		}
		if said := strings.Contains(log.String(), "a key is missing"); said != (len(missing) > 0) {
			t.Errorf("start %d without %v says:\n%s", boot, missing, &log)
		}
		for _, name := range missing {
			if !strings.Contains(log.String(), name) {
				t.Errorf("start %d without %v says:\n%s", boot, missing, &log)
			}
		}
	}
}

func TestFilesOfTheReferenceStayAsTheyAre(t *testing.T) {
	cfg := configIn(t.TempDir())
	dir := filepath.Join(cfg.DataDir, "registry", "docker", "registry", "v2")
	for _, name := range []string{"blobs/sha256/ab/abcd/data", "repositories/hello/_manifests/tags/1/current/link"} {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	before := contentOf(t, filepath.Join(cfg.DataDir, "registry"))
	makeFilledRoot(t, cfg)
	r, _ := run(t, cfg)
	if _, body := get(t, r.URL+"/v2/_catalog", "admin", passwordOf(t, r)); strings.Contains(body, "hello") {
		t.Errorf("the catalog has a repository of the reference: %s", body)
	}
	if diff := cmp.Diff(before, contentOf(t, filepath.Join(cfg.DataDir, "registry"))); diff != "" {
		t.Error(diff)
	}
}
