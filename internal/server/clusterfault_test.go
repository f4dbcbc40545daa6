package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"ferry/internal/metadb/dbtest"
)

func TestOnlyAnOutageLetsAProcessServeFromMemory(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	s := newShared(t)
	database := dbtest.NewServer(t)
	s.database = database.Create(t, "ferry")
	m := s.start(t)
	pull := func(want int, state string) {
		t.Helper()
		status, text, h := m.call(t, m.password, "GET", "/v2/app/manifests/t", "")
		if status != want || want == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
			t.Errorf("%s: %d %s, %v; want %d", state, status, text, h, want)
		}
	}
	if status, text, _ := m.call(t, m.password, "PUT", "/v2/app/manifests/t", emptyIndex,
		"Content-Type", imageIndex); status != http.StatusCreated {
		t.Fatal(status, text)
	}
	pull(http.StatusOK, "pushed")
	database.Stop(t)
	pull(http.StatusOK, "the database is stopped")
	database.Start(t)
	pull(http.StatusOK, "the database is back")
	for begun := time.Now(); ; { // until a probe has found that
		if status, _, _ := m.call(t, m.password, "GET", "/health/ready", ""); status == http.StatusOK {
			break
		}
		if time.Since(begun) > time.Minute {
			t.Fatal("the process is not ready")
		}
	}
	dbtest.Session(t, s.database, `ALTER TABLE changes RENAME TO hidden`)()
	pull(http.StatusServiceUnavailable, "changes cannot be read")
	dbtest.Session(t, s.database, `ALTER TABLE hidden RENAME TO changes`)()
	pull(http.StatusOK, "changes can be read")
}

// The leader dies after it has done what another process asked for, and before its answer is written.
func TestRequestOfALeaderThatDiedRunsOnce(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs PostgreSQL")
	}
	s := newShared(t)
	a := s.start(t)
	if status, text, _ := a.call(t, a.password, "GET", "/api/v1/mirror-rules", ""); status != http.StatusOK {
		t.Fatal(status, text) // now it leads
	}
	b := s.start(t)
	const rule = "/api/v1/mirror-rules/m"
	put := func(m *member, size int) (int, string, http.Header) {
		body := `{"source": "docker.io/library/alpine", "repository": "mirror/alpine"` + strings.Repeat(" ", size) + `}`
		return m.call(t, a.password, "PUT", rule, body, "Content-Type", "application/json")
	}
	for _, m := range []*member{a, b} {
		if status, text, _ := put(m, 1<<20); status != http.StatusRequestEntityTooLarge {
			t.Errorf("a body of more than a MiB: %d %s", status, text)
		}
	}

	dbtest.Session(t, s.database, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION 'the test'; END $$;
		CREATE TRIGGER refuse BEFORE UPDATE OF answer ON questions FOR EACH ROW EXECUTE FUNCTION refuse()`)()
	type answer struct {
		status int
		text   string
		h      http.Header
	}
	answers := make(chan answer, 1)
	go func() {
		status, text, h := put(b, 0)
		answers <- answer{status, text, h}
	}()
	for begun := time.Now(); ; {
		if status, _, _ := a.call(t, a.password, "GET", rule, ""); status == http.StatusOK {
			break
		}
		if time.Since(begun) > 10*time.Second {
			t.Fatal("the leader does not do it")
		}
	}
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	dbtest.Session(t, s.database, `DROP TRIGGER refuse ON questions`)()
	got := <-answers
	if got.status != http.StatusServiceUnavailable || got.h.Get("Retry-After") == "" ||
		!strings.Contains(got.text, "may be done") {
		t.Errorf("the answer is %d %s, %v", got.status, got.text, got.h)
	}
	status, text, _ := b.call(t, a.password, "GET", "/api/v1/audit-log?resource=mirror-rules/m", "")
	if n := strings.Count(text, `"object":"mirror-rules/m"`); status != http.StatusOK || n != 1 {
		t.Errorf("it was done %d times: %d %s", n, status, text)
	}
}
