package control_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/auth"
	"ferry/internal/control"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// someone is an operator without limits.
var someone = control.Caller{Name: "admin", Sender: "192.0.2.1"}

// withAdmin returns an instance with the operator admin, which is the connected registry self unless
// that is "", and its clock.
func withAdmin(t *testing.T, db *metadb.DB, self string) (*control.Service, *time.Time) {
	t.Helper()
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	s, err := control.New(t.Context(), control.Options{DB: db, Self: self, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.EnsureAdmin(t.Context(), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return s, &now
}

func TestOperatorsAreLocalToAnInstance(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		s, _ := withAdmin(t, db, "Ship01")
		o, err := s.PutOperator(t.Context(), someone, "anna", api.OperatorPut{Role: "reader"}, control.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		if !mayLogIn(t, s, "anna", *o.Password) || mayLogIn(t, s, "anna", *o.Password+"x") {
			t.Error("the password does not work, or another does")
		}
		again, err := control.New(t.Context(), control.Options{DB: db, Self: "Ship01"})
		if err != nil || !mayLogIn(t, again, "anna", *o.Password) {
			t.Errorf("after a restart: %v", err)
		}
	})
}

func TestLastAdminWithoutLimitsStays(t *testing.T) {
	s, _ := withAdmin(t, dbtest.SQLite(t), "")
	ctx := t.Context()
	put := func(name, role string, repositories ...string) error {
		_, err := s.PutOperator(ctx, someone, name, api.OperatorPut{Role: role, Repositories: repositories},
			control.Precondition{})
		return err
	}
	if err := errors.Join(put("limited", "admin", "team/*"), put("viewer", "reader")); err != nil {
		t.Fatal(err)
	}
	reader := "reader"
	_, demoted := s.UpdateOperator(ctx, someone, "admin", api.OperatorPatch{Role: &reader}, control.Precondition{})
	_, narrowed := s.UpdateOperator(ctx, someone, "admin", api.OperatorPatch{Labels: []string{"a=b"}},
		control.Precondition{})
	for name, err := range map[string]error{
		"deleted":  s.DeleteOperator(ctx, someone, "admin", control.Precondition{}),
		"demoted":  demoted,
		"narrowed": narrowed,
		"replaced": put("admin", "reader"),
	} {
		if err == nil || !strings.Contains(err.Error(), "last admin") {
			t.Errorf("the last admin is %s: %v", name, err)
		}
	}
	if err := put("second", "admin"); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteOperator(ctx, someone, "admin", control.Precondition{}); err != nil {
		t.Errorf("an admin of two cannot be deleted: %v", err)
	}
}

func TestInvalidOperatorsAreRefused(t *testing.T) {
	s, _ := withAdmin(t, dbtest.SQLite(t), "")
	_, err := s.PutScopeMap(t.Context(), someone, "m",
		api.ScopeMapPut{Actions: []string{"repositories/a/content/read"}}, control.Precondition{})
	if err == nil {
		_, err = s.PutToken(t.Context(), someone, "line1", api.TokenPut{ScopeMap: "m"}, control.Precondition{})
	}
	if err != nil {
		t.Fatal(err)
	}
	key, _ := auth.GenerateAPIKey(strings.NewReader(strings.Repeat("x", 32)))
	for name, put := range map[string]api.OperatorPut{
		"a:b":   {Role: "admin"},
		"ADMIN": {Role: "admin"},
		"line1": {Role: "admin"},
		"role":  {Role: "owner"},
		"star":  {Role: "admin", Repositories: []string{"te*am"}},
		"label": {Role: "admin", Labels: []string{"group"}},
		"short": {Role: "admin", Password: "elevenchars"},
		"key":   {Role: "admin", Password: key},
		"utf-8": {Role: "admin", Password: "\xff2345678901234"},
	} {
		if o, err := s.PutOperator(t.Context(), someone, name, put, control.Precondition{}); err == nil {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

func TestChangedPasswordEndsLoginsAtOnce(t *testing.T) {
	s, _ := withAdmin(t, dbtest.SQLite(t), "")
	o, err := s.PutOperator(t.Context(), someone, "anna", api.OperatorPut{Role: "admin"}, control.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Directory().Authenticate(t.Context(), "anna", *o.Password)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetOperatorPassword(t.Context(), someone, "anna", api.PasswordPost{}); err != nil {
		t.Fatal(err)
	}
	if mayLogIn(t, s, "anna", *o.Password) {
		t.Error("the old password works")
	}
	if _, err := s.Directory().Lookup(t.Context(), p.Kind, p.Name, p.Generation); !errors.Is(err,
		auth.ErrUnauthenticated) {
		t.Errorf("a signed token of the old password: %v", err)
	}
}

func TestAPIKeysHaveTheRightsOfBoth(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		s, now := withAdmin(t, db, "")
		ctx := t.Context()
		_, err := s.PutOperator(ctx, someone, "ci", api.OperatorPut{Role: "admin",
			Repositories: []string{"team/*"}, Labels: []string{"group=baltic"}}, control.Precondition{})
		if err != nil {
			t.Fatal(err)
		}
		expiry := now.Add(time.Hour)
		same, err := s.CreateAPIKey(ctx, someone, "ci", "same", api.APIKeyPut{Expiry: expiry})
		if err != nil {
			t.Fatal(err)
		}
		narrow, err := s.CreateAPIKey(ctx, someone, "ci", "narrow", api.APIKeyPut{
			Expiry: expiry, Role: "reader", Repositories: []string{"team/app"}})
		if err != nil {
			t.Fatal(err)
		}
		use := func(name string, k api.APIKey) *auth.Principal {
			p, err := s.Directory().AuthenticateKey(name, *k.Value)
			if err != nil {
				return nil
			}
			return p
		}
		if p := use("ci", same); p == nil || !p.Admin || p.Key != "same" ||
			!p.Permissions.AllowsRepository("team/web", auth.ContentDelete) ||
			p.Permissions.AllowsRepository("other", auth.ContentRead) ||
			!p.Limits.HasRegistry(map[string]string{"group": "baltic"}) {
			t.Errorf("%+v", p)
		}
		if p := use("", narrow); p == nil || p.Admin || p.Permissions.AllowsRepository("team/web", auth.ContentRead) ||
			!p.Permissions.AllowsRepository("team/app", auth.ContentRead) ||
			p.Permissions.AllowsRepository("team/app", auth.ContentWrite) || p.Limits.HasRegistry(nil) {
			t.Errorf("%+v", p)
		}
		if use("admin", same) != nil || mayLogIn(t, s, "ci", *same.Value) {
			t.Error("a key works as another operator, or as a password")
		}
		// The operator loses rights, and so does the key.
		reader := "reader"
		if _, err := s.UpdateOperator(ctx, someone, "ci", api.OperatorPatch{Role: &reader,
			Repositories: []string{"base/*"}}, control.Precondition{}); err != nil {
			t.Fatal(err)
		}
		if p := use("ci", same); p == nil || p.Admin || p.Permissions.AllowsRepository("team/app", auth.ContentRead) {
			t.Errorf("%+v", p)
		}
		if p := use("ci", narrow); p == nil || p.Limits.Covers("team/app") || p.Limits.Covers("base/x") {
			t.Errorf("%+v", p)
		}
		token := use("ci", same)
		*now = expiry
		if use("ci", same) != nil {
			t.Error("an expired key works")
		}
		if _, err := s.Directory().Lookup(ctx, token.Kind, token.Name, token.Generation); err == nil {
			t.Error("a signed token of an expired key works")
		}
		*now = expiry.Add(-time.Minute)
		if err := s.DeleteOperator(ctx, someone, "ci", control.Precondition{}); err != nil {
			t.Fatal(err)
		}
		if use("ci", same) != nil || use("", narrow) != nil {
			t.Error("a key outlives its operator")
		}
	})
}

func TestWiderAPIKeysAreRefused(t *testing.T) {
	s, now := withAdmin(t, dbtest.SQLite(t), "")
	ctx := t.Context()
	_, err := s.PutOperator(ctx, someone, "ci", api.OperatorPut{Role: "reader", Repositories: []string{"team/*"}},
		control.Precondition{})
	if err != nil {
		t.Fatal(err)
	}
	day := now.AddDate(0, 0, 1)
	for name, put := range map[string]api.APIKeyPut{
		"role":         {Expiry: day, Role: "admin"},
		"repositories": {Expiry: day, Repositories: []string{"*"}},
		"labels":       {Expiry: day, Labels: []string{"group=baltic"}},
		"expired":      {Expiry: *now},
		"endless":      {Expiry: now.AddDate(3, 0, 0)},
		"never":        {},
		"a/b":          {Expiry: day},
	} {
		if k, err := s.CreateAPIKey(ctx, someone, "ci", name, put); err == nil {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func TestUseOfAPIKeysIsKeptWithoutWrites(t *testing.T) {
	s, now := withAdmin(t, dbtest.SQLite(t), "")
	ctx := t.Context()
	k, err := s.CreateAPIKey(ctx, someone, "admin", "ci", api.APIKeyPut{Expiry: now.AddDate(0, 0, 1)})
	if err != nil || k.LastUseTime != nil {
		t.Fatalf("%+v, %v", k, err)
	}
	version := s.State().Version()
	for range 3 {
		*now = now.Add(time.Minute)
		if _, err := s.Directory().AuthenticateKey("", *k.Value); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // before it is stored, and afterwards
		all, err := s.APIKeys(ctx, "admin")
		if err != nil || len(all) != 1 || all[0].Value != nil || !all[0].LastUseTime.Equal(*now) {
			t.Errorf("%+v, %v", all, err)
		}
		if err := s.SaveKeyUse(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if s.State().Version() != version {
		t.Error("the use of a key changes the control plane")
	}
}
