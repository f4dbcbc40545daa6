package auth

import (
	"strings"
	"testing"

	"ferry/internal/oci"
)

func FuzzParseScopes(f *testing.F) {
	for _, text := range []string{
		"repository:a:pull", "repository:a/b:pull,push repository:c:*", "registry:catalog:*",
		"repository:host:5000/a:pull", "repository::", " ", "a:b:c",
		strings.Repeat("repository:a:pull ", 300), "repository:a:" + strings.Repeat("pull,", 100),
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		scopes, err := parseScopes([]string{text, text})
		if err != nil {
			if oci.AsError(err) == nil {
				t.Errorf("%v is not an error of the specification", err)
			}
			return
		}
		if len(scopes) > maxScopes {
			t.Errorf("%d scopes", len(scopes))
		}
		none, all := Permissions{}, Everything
		for _, s := range scopes {
			if len(s.Actions) > maxScopeActions || s.Type == "repository" && oci.CheckRepository(s.Name) != nil {
				t.Errorf("%+v", s)
			}
			if s.Type == "repository" && len(s.granted(none).Actions) > 0 {
				t.Errorf("%+v is granted without permissions", s)
			}
			for _, a := range s.granted(all).Actions {
				if s.Type == "repository" && len(scopeActions[a]) == 0 {
					t.Errorf("%q means nothing", a)
				}
			}
		}
	})
}

func FuzzSignerRead(f *testing.F) {
	signer, other := newTestSigner(f), newTestSigner(f)
	for _, s := range []*Signer{signer, other} {
		token, _, err := s.sign(&Principal{Kind: KindToken, Name: "x"}, "service", nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
		f.Add(token[:len(token)-2])
	}
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := other.verify(text); err == nil && c.Issuer != other.id {
			t.Errorf("a token of %s was accepted", c.Issuer)
		}
	})
}
