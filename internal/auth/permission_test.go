package auth

import (
	"testing"

	"pgregory.net/rapid"
)

func TestPermissionsAreAdditive(t *testing.T) {
	p, err := ParsePermissions([]string{
		"repositories/a/b/content/read", "repositories/team/*/content/write", "repositories/*/metadata/read",
		"gateway/Ship01/message/read",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		repository string
		action     Action
		want       bool
	}{
		{"a/b", ContentRead, true}, {"a/b", ContentWrite, false}, {"a/b", MetadataRead, true},
		{"a/bc", ContentRead, false}, {"a", ContentRead, false},
		{"team/x", ContentWrite, true}, {"team/x/y", ContentWrite, true}, {"team", ContentWrite, false},
		{"teams/x", ContentWrite, false}, {"team/x", ContentRead, false},
		{"any/thing", MetadataRead, true}, {"any/thing", MetadataWrite, false}, {"any", ContentDelete, false},
	} {
		if got := p.AllowsRepository(test.repository, test.action); got != test.want {
			t.Errorf("%s %s: %t", test.repository, test.action, got)
		}
	}
	if !p.AllowsGateway("SHIP01", MessageRead) || p.AllowsGateway("ship01", MessageWrite) ||
		p.AllowsGateway("ship", MessageRead) || p.WithoutGateways().AllowsGateway("ship01", MessageRead) {
		t.Error("gateway")
	}
	if !p.WithoutGateways().AllowsRepository("a/b", ContentRead) {
		t.Error("WithoutGateways removed repositories")
	}
}

func TestPatternAllowsOnlyItsPrefix(t *testing.T) {
	part := rapid.StringMatching(`[a-z0-9]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		prefix, name := part.Draw(t, "prefix"), part.Draw(t, "name")+"/"+part.Draw(t, "rest")
		p, err := ParsePermissions([]string{"repositories/" + prefix + "/*/content/read"})
		if err != nil {
			t.Fatal(err)
		}
		inside := len(name) > len(prefix) && name[:len(prefix)+1] == prefix+"/"
		if got := p.AllowsRepository(name, ContentRead); got != inside {
			t.Errorf("%s/* allows %s: %t", prefix, name, got)
		}
	})
}

func FuzzParseAction(f *testing.F) {
	for _, text := range []string{
		"repositories/a/content/read", "repositories/*/metadata/write", "repositories/a/*/content/delete",
		"gateway/Ship01/config/read", "repositories//content/read",
		"repositories/**/content/read", "gateway/a/b/config/read", "x", "", "repositories/content/read",
		"gateway/../message/read",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		kind, name, action, err := ParseAction(text)
		if err != nil {
			if len(err.Error()) > 4000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			return
		}
		again := kind + "/" + name + "/" + string(action)
		k, n, a, err := ParseAction(again)
		if err != nil || k != kind || n != name || a != action {
			t.Errorf("%q became %q: %v", text, again, err)
		}
		p, err := ParsePermissions([]string{text})
		if err != nil {
			t.Fatal(err)
		}
		if kind == OnRepository && p.AllowsRepository("somewhere/else", action) && name != "*" &&
			name != "somewhere/*" && name != "somewhere/else" {
			t.Errorf("%q allows too much", text)
		}
	})
}
