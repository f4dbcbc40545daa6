package credential_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"ferry/internal/auth"
	"ferry/internal/credential"
	"ferry/internal/wire"
)

const month = 30 * 24 * time.Hour

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func connection(password string) wire.ConnectionString {
	return wire.ConnectionString{Name: "ship1", Token: "ship1", Password: password, Protocol: "https", Endpoint: "a,b"}
}

// A store is a Store on disk, with a clock.
type store struct {
	*credential.Store
	dir string
	log bytes.Buffer
	now time.Time
}

// open opens the store, as a start of the process does.
func (s *store) open(t interface {
	Helper()
	Fatal(...any)
}) {
	t.Helper()
	var err error
	s.Store, err = credential.Open(credential.Options{
		DataDir: s.dir, Identity: "1", Log: slog.New(slog.NewTextHandler(&s.log, nil)),
		Now: func() time.Time { return s.now },
	})
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t *testing.T, password string) *store {
	t.Helper()
	s := &store{dir: t.TempDir(), now: start}
	s.open(t)
	s.Configure(connection(password))
	return s
}

// logIn tries logins until the parent accepts one of the passwords, as the agent does. It returns the
// passwords that were tried.
func (s *store) logIn(accepts ...string) (tried []string, ok bool) {
	for {
		login := s.Login()
		tried = append(tried, login.Password+login.JoinToken)
		if slices.Contains(accepts, login.Password) {
			s.Accepted(login)
			return tried, true
		}
		if !s.Refused(login) {
			return tried, false
		}
	}
}

func (s *store) tries(t *testing.T, accepts string, want ...string) {
	t.Helper()
	tried, _ := s.logIn(accepts)
	if !slices.Equal(tried, want) {
		t.Errorf("the site tries %q, want %q", tried, want)
	}
}

func TestStoredPasswordsAreEncrypted(t *testing.T) {
	s := newStore(t, "s3cr3t")
	s.logIn("s3cr3t")
	for _, name := range []string{credential.File, credential.KeyFile} {
		path := filepath.Join(s.dir, name)
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info.Mode(), err)
		}
		text, err := os.ReadFile(path)
		if err != nil || bytes.Contains(text, []byte("s3cr3t")) || bytes.Contains(text, []byte("ship1")) {
			t.Errorf("%s is not encrypted: %s %v", name, text, err)
		}
	}
	if strings.Contains(s.log.String(), "s3cr3t") {
		t.Error("the log has the password")
	}
}

func TestStaleConnectionStringIsNoError(t *testing.T) {
	s := newStore(t, "old")
	s.tries(t, "old", "old")
	s.Set(connection("new"))
	s.tries(t, "new", "new")
	s.open(t)
	s.Configure(connection("old")) // as in the settings
	s.tries(t, "new", "new")
	if got, err := credential.Connection(s.dir); err != nil || got == nil || got.Name != "ship1" {
		t.Errorf("without a connection string: %v %v", got, err)
	}
}

func TestChangedConnectionStringIsTriedFirst(t *testing.T) {
	s := newStore(t, "old")
	s.logIn("old")
	s.open(t)
	s.Configure(connection("newer"))
	s.tries(t, "newer", "newer")
	s.Configure(connection("wrong"))
	s.tries(t, "newer", "wrong", "newer")
	s.tries(t, "newer", "newer") // it was answered
	s.open(t)
	s.Configure(connection("wrong"))
	s.tries(t, "newer", "newer")
	s.tries(t, "nothing", "newer", "wrong") // the last hope
}

func TestRestoredDirectoryFallsBackToTheConnectionString(t *testing.T) {
	s := newStore(t, "first")
	s.logIn("first")
	backup, err := os.ReadFile(filepath.Join(s.dir, credential.File))
	if err != nil {
		t.Fatal(err)
	}
	s.Configure(connection("second"))
	s.logIn("second")
	restore := func(text []byte) {
		if err := os.WriteFile(filepath.Join(s.dir, credential.File), text, 0o600); err != nil {
			t.Fatal(err)
		}
		s.log.Reset()
		s.open(t)
		s.Configure(connection("second"))
	}
	restore(backup)
	s.tries(t, "second", "second")
	restore([]byte("damaged"))
	s.tries(t, "second", "second")
	if !strings.Contains(s.log.String(), "the connection string is used instead") {
		t.Errorf("the log says %q", s.log.String())
	}

	s.Set(connection("third"))
	s.logIn("third")
	s.Set(connection("fourth")) // refused, because it was mistyped
	s.tries(t, "third", "fourth", "third")
	s.log.Reset()
	s.tries(t, "fourth", "third", "fourth")
	if !strings.Contains(s.log.String(), "that of the connection string is used again") {
		t.Errorf("the log says %q", s.log.String())
	}
}

func TestJoinTokenIsExchangedOnce(t *testing.T) {
	s := &store{dir: t.TempDir(), now: start}
	s.open(t)
	join := connection("")
	join.JoinToken = "ticket"
	s.Configure(join)
	if got, _ := credential.Connection(s.dir); got != nil {
		t.Error("a connection string that no parent accepted is used without its setting")
	}
	var hashes []string
	for range 2 { // the answer is lost, and the process is killed
		login := s.Login()
		if login.JoinToken != "ticket" || login.Password != "" {
			t.Fatalf("the login has %q and %q", login.JoinToken, login.Password)
		}
		hash, err := s.Join(login)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, hash)
		s.open(t)
		s.Configure(join)
	}
	if hashes[0] != hashes[1] {
		t.Error("the second try has another password")
	}
	s.Joined(s.Login())
	s.open(t)
	s.Configure(join)
	login := s.Login()
	if login.JoinToken != "" || auth.HashPassword(login.Password) != hashes[0] {
		t.Error("the site does not log in with the password that it has made")
	}
	s.Accepted(login)
	if got, err := credential.Connection(s.dir); err != nil || got == nil {
		t.Errorf("after the exchange: %v %v", got, err)
	}
}

func TestAnnouncedEndpointIsTriedLast(t *testing.T) {
	s := newStore(t, "p")
	for _, bad := range []string{"", "https://c", "c,d", "a b"} {
		s.Announce(bad)
	}
	if got := s.Login().Endpoint; got != "a,b" {
		t.Errorf("endpoints %s", got)
	}
	s.Announce("c:443/ferry")
	s.Announce("")
	s.open(t)
	if got := s.Login().Endpoint; got != "a,b,c:443/ferry" {
		t.Errorf("endpoints %s", got)
	}
	s.Announce("b")
	if got := s.Login().Endpoint; got != "a,b" {
		t.Errorf("endpoints %s", got)
	}
}

// A parent is a sync token as the root has it.
type parent struct {
	passwords []wire.Password
	now       *time.Time
}

func (p *parent) set(slot, hash string, rotated bool) {
	p.passwords = slices.DeleteFunc(slices.Clone(p.passwords), func(o wire.Password) bool { return o.Name == slot })
	p.passwords = append(p.passwords, wire.Password{Name: slot, Hash: hash, CreatedAt: *p.now, Rotated: rotated})
}

func (p *parent) accepts(password string) bool {
	return slices.ContainsFunc(p.passwords, func(o wire.Password) bool { return o.Hash == auth.HashPassword(password) })
}

func (p *parent) change(c *wire.PasswordChange) {
	if c == nil || slices.ContainsFunc(p.passwords, func(o wire.Password) bool { return o.Hash == c.Hash }) {
		return
	}
	if slot, ok := auth.RotationSlot(p.passwords, c.Using, *p.now); ok {
		p.set(slot, c.Hash, true)
	}
}

// poll is a poll of which the request or the answer may be lost.
func poll(s *store, p *parent, requestLost, answerLost bool) bool {
	for {
		change, login := s.Change(month), s.Login()
		if requestLost {
			return true
		}
		if p.accepts(login.Password) {
			p.change(change)
			if !answerLost {
				s.Accepted(login)
				s.SetKnown(slices.Clone(p.passwords))
			}
			return true
		}
		if !s.Refused(login) {
			return false
		}
	}
}

func TestPasswordIsRotatedOnSchedule(t *testing.T) {
	s := newStore(t, "first")
	p := &parent{now: &s.now}
	p.set("password1", auth.HashPassword("first"), false)
	poll(s, p, false, false)
	seen := map[string]time.Time{}
	for range 200 {
		s.now = s.now.Add(24 * time.Hour)
		if !poll(s, p, false, false) {
			t.Fatal("the parent refuses every password")
		}
		for _, o := range p.passwords {
			if _, ok := seen[o.Hash]; !ok {
				seen[o.Hash] = s.now
			}
		}
		if len(p.passwords) > 2 {
			t.Fatalf("the token has %d passwords", len(p.passwords))
		}
	}
	if n := len(seen) - 1; n < 6 || n > 9 { // every 24 to 30 days
		t.Errorf("%d rotations in 200 days, want 6 to 9", n)
	}
	if s.Change(0) != nil {
		t.Error("the password is rotated although that is off")
	}
}

func TestFleetDoesNotRotateAtOnce(t *testing.T) {
	days := map[int]int{}
	for i := range 60 {
		s := newStore(t, "first")
		p := &parent{now: &s.now, passwords: []wire.Password{{Name: "password1",
			Hash: auth.HashPassword("first" + strings.Repeat("x", i)), CreatedAt: start}}}
		s.Configure(connection("first" + strings.Repeat("x", i)))
		poll(s, p, false, false)
		for day := 1; s.Change(month) == nil; day++ {
			if s.now = start.Add(time.Duration(day) * 24 * time.Hour); day > 31 {
				t.Fatal("it never rotates")
			}
		}
		days[int(s.now.Sub(start)/(24*time.Hour))]++
	}
	for day, n := range days {
		if n > 30 || day < 24 {
			t.Errorf("%d of 60 registries rotate after %d days", n, day)
		}
	}
}

// Whatever is lost or killed, and whatever an operator does with the other slot, the site can log in.
func TestRotationNeverLocksOut(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		s := &store{dir: t.TempDir(), now: start}
		s.open(r)
		p := &parent{now: &s.now}
		p.set("password1", auth.HashPassword("first"), false)
		s.Configure(connection("first"))
		operators := map[string]bool{} // hashes of operators' passwords that nobody has used yet
		r.Repeat(map[string]func(*rapid.T){
			"poll":         func(r *rapid.T) { poll(s, p, false, false) },
			"lost request": func(r *rapid.T) { poll(s, p, true, false) },
			"lost answer":  func(r *rapid.T) { poll(s, p, false, true) },
			"kill":         func(r *rapid.T) { s.open(r); s.Configure(connection("first")) },
			"wait": func(r *rapid.T) {
				s.now = s.now.Add(time.Duration(rapid.IntRange(1, 40).Draw(r, "days")) * 24 * time.Hour)
			},
			"operator": func(r *rapid.T) { // makes a password in the slot that is not in use
				poll(s, p, false, false)
				using := auth.HashPassword(s.Login().Password)
				for _, slot := range []string{"password1", "password2"} {
					if !slices.ContainsFunc(p.passwords, func(o wire.Password) bool {
						return o.Name == slot && o.Hash == using
					}) {
						s.now = s.now.Add(time.Second)
						made := auth.HashPassword(s.now.String())
						p.set(slot, made, false)
						operators[made] = true
						return
					}
				}
			},
			"": func(r *rapid.T) {
				if !poll(s, p, false, false) {
					r.Fatal("the site is locked out")
				}
				n := 0
				for _, o := range p.passwords {
					if operators[o.Hash] {
						n++
					}
				}
				if last := len(operators); last > 0 && n == 0 {
					r.Fatal("an operator's password was replaced by a rotation")
				}
			},
		})
	})
}

func TestPasswordThatExpiresIsReported(t *testing.T) {
	s := newStore(t, "first")
	p := &parent{now: &s.now}
	p.set("password1", auth.HashPassword("first"), false)
	p.passwords[0].ExpiresAt = start.Add(10 * 24 * time.Hour)
	poll(s, p, false, false)
	if d := s.Detail(0); d != nil {
		t.Errorf("ten days before: %+v", d)
	}
	s.now = start.Add(3*24*time.Hour + time.Second)
	d := s.Detail(0)
	if d == nil || d.Code != wire.PasswordExpires || !strings.Contains(d.Description, "2026-01-12T03:04:05Z") {
		t.Errorf("seven days before: %+v", d)
	}
}

func TestRotationWaitsForAnOperatorsPassword(t *testing.T) {
	s := newStore(t, "first")
	p := &parent{now: &s.now}
	p.set("password1", auth.HashPassword("first"), false)
	poll(s, p, false, false)
	s.now = s.now.Add(time.Hour)
	p.set("password2", auth.HashPassword("spare"), false)
	s.now = s.now.Add(2 * month)
	poll(s, p, false, false)
	if d := s.Detail(month); d == nil || d.Code != wire.RotationWaits || !strings.Contains(d.Description, "password2") {
		t.Errorf("%+v", d)
	}
	if s.Change(month) != nil || !p.accepts("spare") {
		t.Error("the operator's password was replaced")
	}
	s.Set(connection("spare"))
	for range 3 {
		poll(s, p, false, false)
	}
	s.now = s.now.Add(2 * month)
	poll(s, p, false, false)
	if p.accepts("first") || s.Detail(month) != nil {
		t.Errorf("once it is used, the rotation goes on: %+v", s.Detail(month))
	}
}
