package control_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// bare returns a root without an operator.
func bare(t *testing.T, db *metadb.DB) *control.Service {
	t.Helper()
	s, err := control.New(t.Context(), control.Options{DB: db})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mayLogIn(t *testing.T, s *control.Service, name, password string) bool {
	t.Helper()
	_, err := s.Directory().Authenticate(t.Context(), name, password)
	if err != nil && !errors.Is(err, auth.ErrUnauthenticated) {
		t.Fatal(err)
	}
	return err == nil
}

func TestFirstStartCreatesAnAdministrator(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		i := bare(t, db)
		dir := t.TempDir()
		password, err := i.EnsureAdmin(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, control.PasswordFile)
		text, err := os.ReadFile(path)
		if err != nil || strings.TrimSpace(string(text)) != password {
			t.Errorf("%q, %v", text, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		if again, err := i.EnsureAdmin(t.Context(), dir); again != "" || err != nil {
			t.Errorf("the second start generated %q, %v", again, err)
		}
		if files, _ := os.ReadDir(dir); len(files) != 1 {
			t.Errorf("%v", files)
		}
		p, err := i.Directory().Authenticate(t.Context(), "admin", password)
		if err != nil || p.Kind != auth.KindOperator || !p.Admin ||
			!p.Permissions.AllowsRepository("any", auth.ContentDelete) ||
			p.Permissions.AllowsGateway("Ship01", auth.MessageRead) {
			t.Errorf("%+v, %v", p, err)
		}
		if mayLogIn(t, i, "admin", password+"x") || mayLogIn(t, i, "admin", "") || mayLogIn(t, i, "", "") {
			t.Error("a wrong password works")
		}
	})
}

func TestNoAdministratorWithoutItsPasswordFile(t *testing.T) {
	i := bare(t, dbtest.SQLite(t))
	if _, err := i.EnsureAdmin(t.Context(), filepath.Join(t.TempDir(), "nosuch")); err == nil {
		t.Fatal("no error")
	}
	if password, err := i.EnsureAdmin(t.Context(), t.TempDir()); password == "" || err != nil {
		t.Errorf("the next start: %q, %v", password, err)
	}
}

func TestPasswordFileOfAnotherDatabaseIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), control.PasswordFile)
	if err := os.WriteFile(path, []byte("of another\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	password, err := bare(t, dbtest.SQLite(t)).EnsureAdmin(t.Context(), filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{path: password + "\n", path + ".old": "of another\n"} {
		if got, err := os.ReadFile(name); err != nil || string(got) != want {
			t.Errorf("%s has %q, %v", name, got, err)
		}
	}
}

func TestDatabaseKeepsItsRole(t *testing.T) {
	db := dbtest.SQLite(t)
	if _, err := control.New(t.Context(), control.Options{DB: db, Self: "Ship01"}); err != nil {
		t.Fatal(err)
	}
	for self, want := range map[string]string{"": "connection string", "Other1": "Other1", "SHIP01": ""} {
		_, err := control.New(t.Context(), control.Options{DB: db, Self: self})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", self, err)
		}
	}
}

func TestUnknownNamesAreRefusedAsSlowlyAsOperators(t *testing.T) {
	i := bare(t, dbtest.SQLite(t))
	if _, err := i.EnsureAdmin(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	guess, err := auth.GeneratePassword(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	// The slow check allocates memory, which can be counted.
	cost := func(name, password string) uint64 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if mayLogIn(t, i, name, password) {
			t.Errorf("%s logs in with a guess", name)
		}
		runtime.ReadMemStats(&after)
		return after.TotalAlloc - before.TotalAlloc
	}
	for _, password := range []string{"guess", guess} {
		known, unknown := cost("admin", password), cost("root", password)
		if known < 5<<20 || unknown < known*9/10 || unknown > known*11/10 {
			t.Errorf("the refusal of a known name takes %d bytes, of an unknown one %d", known, unknown)
		}
	}
}
