package server

import (
	"context"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"ferry/internal/auth"
	"ferry/internal/credential"
	"ferry/internal/wire"
)

// A loginRecorder records the logins that an instance publishes.
type loginRecorder struct {
	mu     sync.Mutex
	fail   error
	logins []string
}

// take returns the logins since the last call.
func (r *loginRecorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.logins
	r.logins = nil
	return all
}

// failWith makes the next tries fail with err; nil lets them succeed.
func (r *loginRecorder) failWith(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = err
}

func (r *loginRecorder) PublishLogin(_ context.Context, user, password string, registries []*url.URL) error {
	login := user + ":" + password
	for _, u := range registries {
		login += " " + u.String()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail == nil {
		r.logins = append(r.logins, login)
	}
	return r.fail
}

func TestEachAcceptedLoginIsPublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := credential.Open(credential.Options{DataDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		c := wire.ConnectionString{Name: "ship1", Token: "ship1", JoinToken: "join", Protocol: "https", Endpoint: "a,b"}
		store.Configure(c)
		r := &loginRecorder{}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- publishLogin(ctx, slog.New(slog.DiscardHandler), store, r) }()
		step := func(name string, after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			if got := r.take(); !slices.Equal(got, want) {
				t.Errorf("%s: published %q, want %q", name, got, want)
			}
		}
		step("before the first login", 90*time.Minute)

		if _, err := store.Join(store.Login()); err != nil {
			t.Fatal(err)
		}
		store.Joined(store.Login())
		made, _ := store.InUse()
		login := "ship1:" + made.Password + " https://a https://b"
		step("a join token", time.Second, login)
		store.Accepted(store.Login())
		step("a poll", time.Second)
		step("each hour", time.Hour, login)

		first := wire.Password{Name: "password1", Hash: auth.HashPassword(made.Password), CreatedAt: time.Now()}
		store.SetKnown([]wire.Password{first})
		time.Sleep(31 * 24 * time.Hour)
		change := store.Change(30 * 24 * time.Hour)
		if change == nil {
			t.Fatal("no new password is due after a month")
		}
		r.take()
		step("a password that the root does not have yet", time.Minute)
		store.SetKnown([]wire.Password{first, {Name: "password2", Hash: change.Hash, CreatedAt: time.Now()}})
		store.Accepted(store.Login())
		rotated, _ := store.InUse()
		if rotated.Password == made.Password {
			t.Error("the password in use is the old one")
		}
		step("a rotation", time.Second, "ship1:"+rotated.Password+" https://a https://b")

		c.JoinToken, c.Password, c.Endpoint = "", "two", "c"
		store.Set(c)
		step("not accepted yet", time.Second)
		r.failWith(errors.New("the API is away"))
		store.Accepted(store.Login())
		step("not written", time.Minute)
		r.failWith(nil)
		step("written at last", 5*time.Minute, "ship1:two https://c")

		c.Password = "mistyped"
		store.Set(c)
		store.Refused(store.Login())
		step("refused", time.Second)
		store.Accepted(store.Login())
		step("the login in use again", time.Second, "ship1:two https://c")
		step("each hour", time.Hour, "ship1:two https://c")
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
