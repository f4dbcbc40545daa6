package auth_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ferry/internal/auth"
)

// access returns the scopes of a token.
func access(t *testing.T, token string) []auth.Scope {
	t.Helper()
	parts := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct{ Access []auth.Scope }
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	return claims.Access
}

func TestTokenGrantsTheAllowedPartOfItsScope(t *testing.T) {
	d := newFixture(t)
	for _, test := range []struct {
		name, token string
		scopes      []string
		want        []auth.Scope
	}{
		{"nothing", "puller", nil, []auth.Scope{}},
		{"to pull", "puller", []string{"repository:team/app:pull"},
			[]auth.Scope{{Type: "repository", Name: "team/app", Actions: []string{"pull"}}}},
		{"to push what may only be pulled", "puller", []string{"repository:team/app:pull,push"},
			[]auth.Scope{{Type: "repository", Name: "team/app", Actions: []string{"pull"}}}},
		{"a repository of others", "puller", []string{"repository:a:pull"}, []auth.Scope{}},
		{"several in one", "pusher", []string{"repository:a:pull repository:b:pull"},
			[]auth.Scope{{Type: "repository", Name: "a", Actions: []string{"pull"}}}},
		{"several", "pusher", []string{"repository:b:pull", "repository:a:push"},
			[]auth.Scope{{Type: "repository", Name: "a", Actions: []string{"push"}}}},
		{"all", "pusher", []string{"repository:a:*"},
			[]auth.Scope{{Type: "repository", Name: "a", Actions: []string{"pull", "push", "metadata_read"}}}},
		{"the catalog", "puller", []string{"registry:catalog:*"},
			[]auth.Scope{{Type: "registry", Name: "catalog", Actions: []string{"*"}}}},
		{"what nobody knows", "puller", []string{"repository:team/app:fly", "moon:a:b", "repository:A:pull", ":::", ""},
			[]auth.Scope{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, access(t, d.token(t, test.token, test.scopes...))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestMalformedScopeIsRefusedWithAnExample(t *testing.T) {
	d := newFixture(t)
	for _, scope := range []string{"repository", "repository/a:pull", "repository:a:pull pull"} {
		resp, body := d.get(t, "/oauth2/token?scope="+url.QueryEscape(scope), basic("puller", "secret"))
		if resp.StatusCode != 400 || !strings.Contains(body, `"UNSUPPORTED"`) ||
			!strings.Contains(body, "as repository:team/app:pull") {
			t.Errorf("%q: %d %s", scope, resp.StatusCode, body)
		}
	}
}

func TestOAuth2FormIsAnsweredLikeBasic(t *testing.T) {
	d := newFixture(t)
	for _, test := range []struct {
		name   string
		form   url.Values
		header string
		status int
		words  string
	}{
		{"a password", url.Values{"grant_type": {"password"}, "username": {"puller"}, "password": {"secret"}}, "", 200,
			`"access_token"`},
		{"a wrong password", url.Values{"grant_type": {"password"}, "username": {"puller"}, "password": {"wrong"}}, "",
			401, "invalid user name or password"},
		{"Basic with the form", url.Values{}, basic("puller", "secret"), 200, `"token"`},
		{"a refresh token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}}, "", 401,
			"use password"},
		{"nothing", url.Values{}, "", 401, "UNAUTHORIZED"},
		{"a form that is too large", url.Values{"x": {strings.Repeat("x", 3<<20)}}, "", 413, "larger than 65536 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.form.Set("scope", "repository:team/app:pull")
			req, err := http.NewRequest("POST", d.url+"/oauth2/token", strings.NewReader(test.form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			if test.header != "" {
				req.Header.Set("Authorization", test.header)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != test.status || !strings.Contains(string(body), test.words) ||
				strings.Contains(string(body), "secret") {
				t.Errorf("%d %s", resp.StatusCode, body)
			}
		})
	}
}

func TestMalformedFormIsABadRequest(t *testing.T) {
	d := newFixture(t)
	resp, err := http.Post(d.url+"/oauth2/token", "application/x-www-form-urlencoded", strings.NewReader("scope=%zz"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.StatusCode)
	}
}

func TestTokenAnswerHasItsLifetime(t *testing.T) {
	d := newFixture(t)
	resp, body := d.get(t, "/oauth2/token", basic("puller", "secret"))
	var a tokenAnswer
	if err := json.Unmarshal([]byte(body), &a); err != nil {
		t.Fatal(err)
	}
	if a.ExpiresIn != 300 || a.IssuedAt != "2030-01-02T03:04:05Z" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("%+v, %v", a, resp.Header)
	}
	resp, _ = d.get(t, "/oauth2/token", "")
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != `Basic realm="`+d.url+`"` {
		t.Errorf("%d %s", resp.StatusCode, got)
	}
	req, _ := http.NewRequest("DELETE", d.url+"/oauth2/token", nil)
	if resp, err := http.DefaultClient.Do(req); err != nil || resp.StatusCode != 405 || resp.Header.Get("Allow") == "" {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestScopesBeyondTheLimitAreLeftOut(t *testing.T) {
	d := newFixture(t)
	for _, test := range []struct {
		name        string // of a repository, without its number
		asked, want int
	}{
		{"team/app", 65, 65},
		{"team/app", 1000, 256},
		{"team/" + strings.Repeat("x", 240), 64, 64},
		{"team/" + strings.Repeat("x", 240), 1000, 65},
	} {
		var scopes []string
		for n := range test.asked {
			scopes = append(scopes, fmt.Sprintf("repository:%s%03d:pull", test.name, n))
		}
		token := d.token(t, "puller", scopes...)
		if got := len(access(t, token)); got != test.want || len(token) > 30<<10 {
			t.Errorf("%d of %d scopes are granted, not %d; the token has %d bytes", got, test.asked, test.want,
				len(token))
		}
		if resp, body := d.get(t, "/v2/?need="+test.name+"063|content/read", "Bearer "+token); resp.StatusCode != 200 {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}
}
