package control_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/fleet/fleettest"
	"ferry/internal/metadb"
)

func TestTokenPasswordsAreShownOnceAndWork(t *testing.T) {
	fleettest.OnEveryDatabase(t, func(t *testing.T, root *fleettest.Instance) {
		root.PutScopeMap(t, "m", "repositories/a/content/read")
		var token api.Token
		root.Call(t, "PUT", "/tokens/line1", object{"scopeMap": "m", "passwords": []object{
			{"name": "password1"}, {"name": "password2", "expiry": start.Add(time.Hour)},
		}}).OK(t, &token)
		if *token.ScopeMapID != "/scope-maps/m" || token.Status != "enabled" || token.Credentials.Username != "line1" ||
			len(token.Credentials.Passwords) != 2 {
			t.Fatalf("%+v", token)
		}
		first, second := *token.Credentials.Passwords[0].Value, *token.Credentials.Passwords[1].Value
		if !root.MayLogIn(t, "line1", first) || !root.MayLogIn(t, "line1", second) ||
			root.MayLogIn(t, "line1", first+"x") {
			t.Error("a right password is refused, or a wrong one is accepted")
		}
		root.Call(t, "GET", "/tokens/line1", nil).OK(t, &token)
		for _, p := range token.Credentials.Passwords {
			if p.Value != nil {
				t.Errorf("%s is shown again", p.Name)
			}
		}
		root.Now = start.Add(2 * time.Hour)
		if !root.MayLogIn(t, "line1", first) || root.MayLogIn(t, "line1", second) {
			t.Error("the expired password works, or the other one does not")
		}
	})
}

func TestPasswordIsReplacedWhileTheOtherWorks(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	first := root.PutToken(t, "line1", "m")
	var c api.TokenCredentials
	root.Call(t, "POST", "/tokens/line1/credentials", object{"passwords": []string{"password2"}}).OK(t, &c)
	if len(c.Passwords) != 2 || c.Passwords[0].Value != nil || c.Passwords[1].Value == nil {
		t.Fatalf("%+v", c)
	}
	second := *c.Passwords[1].Value
	if !root.MayLogIn(t, "line1", first) || !root.MayLogIn(t, "line1", second) {
		t.Error("one of the passwords does not work")
	}
	root.Call(t, "DELETE", "/tokens/line1/credentials/password1", nil).OK(t, nil)
	if root.MayLogIn(t, "line1", first) || !root.MayLogIn(t, "line1", second) {
		t.Error("another password was deleted")
	}
	root.Call(t, "DELETE", "/tokens/line1/credentials/password1", nil).Fails(t, 404, "NOT_FOUND", "password1",
		"see ferry token show -n line1")
	root.Call(t, "DELETE", "/tokens/line1/credentials/password3", nil).Fails(t, 404, "NOT_FOUND")
	root.Call(t, "POST", "/tokens/line1/credentials", object{"passwords": []string{"password3"}}).Fails(t, 400,
		"INVALID", "password3")
	root.Call(t, "POST", "/tokens/line1/credentials", object{"passwords": []string{"password1", "password1"}}).Fails(t,
		400, "INVALID", "twice")
	root.Call(t, "POST", "/tokens/line1/credentials",
		object{"passwords": []string{"password1"}, "expiry": start}).Fails(t, 400, "INVALID", "is over")
	root.Call(t, "POST", "/tokens/nosuch/credentials", object{"passwords": []string{"password1"}}).Fails(t, 404,
		"NOT_FOUND", "nosuch")
	if !root.MayLogIn(t, "line1", second) {
		t.Error("a refused request changed something")
	}
}

func TestSignedTokenEndsWithItsPassword(t *testing.T) {
	const credentials = "/tokens/line1/credentials"
	for name, end := range map[string]func(*testing.T, *fleettest.Instance){
		"rotated": func(t *testing.T, root *fleettest.Instance) {
			root.Call(t, "POST", credentials, object{"passwords": []string{"password1"}}).OK(t, nil)
		},
		"deleted": func(t *testing.T, root *fleettest.Instance) {
			root.Call(t, "DELETE", credentials+"/password1", nil).OK(t, nil)
		},
		"expired": func(_ *testing.T, root *fleettest.Instance) { root.Now = start.Add(time.Minute) },
		"replaced": func(t *testing.T, root *fleettest.Instance) {
			root.Call(t, "DELETE", "/tokens/line1", nil).OK(t, nil)
			root.PutToken(t, "line1", "m")
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := fleettest.NewRoot(t)
			root.PutScopeMap(t, "m", "repositories/a/content/read")
			var token api.Token
			root.Call(t, "PUT", "/tokens/line1", object{"scopeMap": "m", "passwords": []object{
				{"name": "password1", "expiry": start.Add(time.Minute)}, {"name": "password2"},
			}}).OK(t, &token)
			first := signedToken(t, root, "line1", *token.Credentials.Passwords[0].Value)
			second := signedToken(t, root, "line1", *token.Credentials.Passwords[1].Value)
			if !mayPull(root, first) || !mayPull(root, second) {
				t.Fatal("the signed token is refused at first")
			}
			end(t, root)
			if mayPull(root, first) {
				t.Error("the signed token outlives its password")
			}
			if works, want := mayPull(root, second), name != "replaced"; works != want {
				t.Errorf("the other password's signed token works: %t", works)
			}
		})
	}
}

// signedToken requests a token to pull the repository a.
func signedToken(t *testing.T, i *fleettest.Instance, name, password string) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/oauth2/token?service=x&scope=repository:a:pull", nil)
	r.SetBasicAuth(name, password)
	w := httptest.NewRecorder()
	i.Auth.TokenHandler(slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
	var answer struct{ Token string }
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || answer.Token == "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return answer.Token
}

// mayPull reports whether a signed token allows a pull from the repository a.
func mayPull(i *fleettest.Instance, signed string) bool {
	r := httptest.NewRequest("GET", "/v2/a/manifests/v1", nil)
	r.Header.Set("Authorization", "Bearer "+signed)
	_, err := i.Auth.Authorize(r, auth.Access{Repository: "a", Action: auth.ContentRead})
	return err == nil
}

func TestDisabledTokenIsRefusedAtOnce(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	password := root.PutToken(t, "line1", "m")
	generation := auth.Generation(auth.HashPassword(password))
	for _, test := range []struct {
		status string
		works  bool
	}{{"disabled", false}, {"Enabled", true}} {
		if _, err := root.Control.Directory().Lookup(t.Context(), auth.KindToken, "line1",
			generation); (err == nil) == test.works {
			t.Errorf("before %s: %v", test.status, err)
		}
		root.Call(t, "PATCH", "/tokens/line1", object{"status": test.status}).OK(t, nil)
		if _, err := root.Control.Directory().Lookup(t.Context(), auth.KindToken, "line1",
			generation); (err == nil) != test.works {
			t.Errorf("after %s: %v", test.status, err)
		}
		if root.MayLogIn(t, "line1", password) != test.works {
			t.Errorf("after %s the password works: %t", test.status, !test.works)
		}
	}
}

// A hookContext calls a function when its Done channel is first needed.
type hookContext struct {
	context.Context
	hook func()
}

func (c hookContext) Done() <-chan struct{} {
	c.hook()
	return c.Context.Done()
}

// The check of an unknown name is slow. A new connected registry may log in while its parent
// first hears of it.
func TestTokenThatComesDuringALoginIsAccepted(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	password := root.PutToken(t, "line1", "m")
	row := root.Control.State().Token("line1").Token
	root.Call(t, "DELETE", "/tokens/line1", nil).OK(t, nil)
	login := func(password string, during func()) error {
		ctx := hookContext{t.Context(), sync.OnceFunc(during)}
		_, err := root.Control.Directory().Authenticate(ctx, "line1", password)
		return err
	}
	if err := login(password, func() {}); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("unknown: %v", err)
	}
	bringToken := func() {
		if err := root.Control.Change(t.Context(), func(tx *metadb.Tx) error { return tx.PutToken(row) }); err != nil {
			t.Error(err)
		}
	}
	if err := login(password, bringToken); err != nil {
		t.Errorf("it came during the login: %v", err)
	}
	root.Call(t, "DELETE", "/tokens/line1", nil).OK(t, nil)
	if err := login(password+"x", bringToken); !errors.Is(err, auth.ErrUnauthenticated) {
		t.Errorf("it came with another password: %v", err)
	}
}

func TestScopeMapChangeAppliesAtOnce(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	generation := auth.Generation(auth.HashPassword(root.PutToken(t, "line1", "m")))
	allows := func(repository string) bool {
		p, err := root.Control.Directory().Lookup(t.Context(), auth.KindToken, "line1", generation)
		if err != nil {
			t.Fatal(err)
		}
		return p.Permissions.AllowsRepository(repository, auth.ContentRead)
	}
	if !allows("a") || allows("b") {
		t.Fatal("the rights are wrong at first")
	}
	root.Call(t, "PATCH", "/scope-maps/m",
		object{"removeActions": []string{"repositories/a/content/read"},
			"addActions": []string{"repositories/b/content/read"}}).OK(t, nil)
	if allows("a") || !allows("b") {
		t.Error("the token has its old rights")
	}
}

func TestInvalidTokenIsRefused(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	for _, test := range []struct {
		name, path string
		body       any
		status     int
		code, word string
	}{
		{"no such scope map", "/tokens/x", object{"scopeMap": "nosuch"}, 404, "NOT_FOUND", "nosuch"},
		{"no scope map", "/tokens/x", object{}, 422, "INVALID", "scopeMap"},
		{"an unknown status", "/tokens/x", object{"scopeMap": "m", "status": "maybe"}, 400, "INVALID", "maybe"},
		{"a third password", "/tokens/x", object{"scopeMap": "m", "passwords": []object{{"name": "password3"}}}, 422,
			"INVALID", "password"},
		{"an expiry that is over", "/tokens/x",
			object{"scopeMap": "m", "passwords": []object{{"name": "password1", "expiry": "2029-01-01T00:00:00Z"}}},
			400, "INVALID", "is over"},
		{"an expiry that is no time", "/tokens/x",
			object{"scopeMap": "m", "passwords": []object{{"name": "password1", "expiry": "tomorrow"}}}, 422, "INVALID",
			"expiry"},
		{"an operator's name", "/tokens/Admin", object{"scopeMap": "m"}, 409, "CONFLICT", "operator"},
		{"a colon", "/tokens/a:b", object{"scopeMap": "m"}, 400, "INVALID", "a:b"},
		{"a field that is unknown", "/tokens/x", object{"scopeMap": "m", "sudo": true}, 422, "INVALID", "sudo"},
	} {
		t.Run(test.name, func(t *testing.T) {
			root.Call(t, "PUT", test.path, test.body).Fails(t, test.status, test.code, test.word)
		})
	}
	var list struct{ Value []api.Token }
	root.Call(t, "GET", "/tokens", nil).OK(t, &list)
	if len(list.Value) != 0 {
		t.Errorf("%+v", list)
	}
}

func TestDeletedTokenIsRemovedFromClientTokens(t *testing.T) {
	root := fleettest.NewRoot(t)
	root.PutScopeMap(t, "m", "repositories/a/content/read")
	password := root.PutToken(t, "line1", "m")
	root.PutToken(t, "line2", "m")
	root.Connect(t, "Ship01", "", "a")
	root.Call(t, "PATCH", "/connected-registries/Ship01", object{"addClientTokens": []string{"line1", "line2"}}).OK(t,
		nil)
	root.Call(t, "DELETE", "/tokens/Ship01", nil).Fails(t, 409, "CONFLICT", "Ship01", "--cleanup")
	root.Call(t, "DELETE", "/tokens/line1", nil).OK(t, nil)
	if r := root.Show(t, "Ship01"); len(r.ClientTokenIDs) != 1 || r.ClientTokenIDs[0] != "/tokens/line2" {
		t.Errorf("%v", r.ClientTokenIDs)
	}
	if root.MayLogIn(t, "line1", password) {
		t.Error("the token still works")
	}
}
