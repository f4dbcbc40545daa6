package oidc

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestMalformedRulesAreRefused(t *testing.T) {
	for _, text := range []string{
		"ops", "=admin", "ops=owner", "ops=admin:", "ops=admin:te*am", "ops=admin:group=", "ops=admin:A",
		strings.Repeat("a=admin;", maxRules+1),
	} {
		if r, err := ParseRules(text); err == nil {
			t.Errorf("%.40s: %+v", text, r)
		}
	}
	r, err := ParseRules(" cn=ops,dc=example=admin ; baltic=reader : team/* , group=baltic;")
	if err != nil || len(r) != 2 || r[0].Group != "cn=ops,dc=example" || !r[0].Admin || r[1].Admin ||
		r[1].Repositories[0] != "team/*" || r[1].Labels[0] != "group=baltic" {
		t.Errorf("%+v, %v", r, err)
	}
}

func FuzzParseRules(f *testing.F) {
	f.Add("ops=admin; baltic=reader:team/*,group=baltic")
	f.Fuzz(func(t *testing.T, text string) {
		rules, err := ParseRules(text)
		if err != nil {
			return
		}
		for _, r := range rules {
			p := (&Person{Name: "x", Admin: r.Admin, Repositories: r.Repositories, Labels: r.Labels}).principal()
			if p.Limits.Any() != (len(r.Repositories)+len(r.Labels) > 0) || strings.Contains(r.Group, ";") {
				t.Errorf("%q: %+v", text, r)
			}
		}
	})
}

// FuzzSession fails if a cookie that was not signed makes a session.
func FuzzSession(f *testing.F) {
	s := New(Options{Key: []byte("key")})
	other, _ := sealer{[]byte("key")}.seal(loginUse, session{Person: Person{Name: "x"}})
	f.Add(other)
	f.Add("e30.AAAA")
	f.Fuzz(func(t *testing.T, value string) {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header["Cookie"] = []string{sessionCookie + "=" + value}
		if p, err := s.Session(r); err == nil {
			t.Errorf("%q: %+v", value, p)
		}
	})
}

func FuzzReturnTo(f *testing.F) {
	for _, text := range []string{"/a?b#c", "//evil.example", `/\evil.example`, "https://evil.example", "/\t/evil"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		to := returnTo(text)
		if !strings.HasPrefix(to, "/") || strings.HasPrefix(to, "//") || strings.ContainsAny(to, "\\\r\n\t") {
			t.Errorf("%q leads to %q", text, to)
		}
	})
}
