package auth

import (
	"strings"
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
		"gateway/../message/read", "repositories/!a/content/read", "repositories/!a/*/content/read",
		"repositories/!*/content/read", "repositories/!!a/content/read",
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
		if pattern, excluded := Excluded(name); excluded {
			p, err := ParsePermissions([]string{text, "repositories/*/" + string(action)})
			if err != nil || p.AllowsSome(pattern, action) {
				t.Errorf("%q does not exclude: %v", text, err)
			}
		}
	})
}

func TestExclusionWinsWithinItsScopeMap(t *testing.T) {
	parse := func(actions ...string) Permissions {
		p, err := ParsePermissions(actions)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := parse("repositories/!ns/secret/content/read", "repositories/ns/*/content/read",
		"repositories/ns/*/metadata/read", "repositories/!ns/private/*/content/read",
		"repositories/ns/private/a/content/read", "repositories/ns/secret/content/write")
	for _, test := range []struct {
		repository string
		action     Action
		want       bool
	}{
		{"ns/app", ContentRead, true}, {"ns/secret", ContentRead, false}, {"ns/secret/below", ContentRead, true},
		{"ns/secret", MetadataRead, true}, {"ns/secret", ContentWrite, true}, {"ns/private/a", ContentRead, false},
		{"ns/private/b", ContentRead, false}, {"ns/private", ContentRead, true},
		{"ns/*", ContentRead, true}, {"ns/private/*", ContentRead, false}, {"*", ContentRead, false},
	} {
		if got := p.AllowsRepository(test.repository, test.action); got != test.want {
			t.Errorf("%s %s: %t", test.repository, test.action, got)
		}
	}
	if pull := p.ToPull(); pull.AllowsRepository("ns/secret", ContentRead) ||
		!pull.AllowsRepository("ns/app", ContentRead) {
		t.Error("ToPull lost an exclusion")
	}
	if !parse("repositories/!ns/secret/content/read").AllowsNothing() {
		t.Error("an exclusion alone allows something")
	}
	// What one scope map excludes, another may allow.
	both := p.And(parse("repositories/ns/secret/content/read"))
	if !both.AllowsRepository("ns/secret", ContentRead) || both.AllowsRepository("ns/private/a", ContentRead) {
		t.Error("an exclusion must hold within its own scope map, and nowhere else")
	}
}

// drawRule draws the name of a permission or an exclusion, of few names, so that many overlap.
func drawRule(t *rapid.T, label string) string {
	rule := rapid.SampledFrom([]string{"a", "a/b", "a/b/c", "b", "a/*", "a/b/*", "*"}).Draw(t, label)
	if rule != "*" && rapid.Bool().Draw(t, label+" is excluded") {
		return "!" + rule
	}
	return rule
}

func TestPatternIsAllowedAsItsNamesAre(t *testing.T) {
	names := []string{"a", "a/b", "a/b/c", "a/b/other", "a/other", "b", "other"}
	rapid.Check(t, func(t *rapid.T) {
		var actions []string
		for range rapid.IntRange(1, 4).Draw(t, "rules") {
			actions = append(actions, "repositories/"+drawRule(t, "rule")+"/content/read")
		}
		p, err := ParsePermissions(actions)
		if err != nil {
			t.Fatal(err)
		}
		for _, pattern := range []string{"a", "a/b", "a/*", "a/b/*", "*"} {
			some := false
			for _, name := range names {
				inside := pattern == "*" || pattern == name ||
					strings.HasSuffix(pattern, "/*") && strings.HasPrefix(name, strings.TrimSuffix(pattern, "*"))
				some = some || inside && p.AllowsRepository(name, ContentRead)
			}
			if got := p.AllowsSome(pattern, ContentRead); got != some {
				t.Errorf("%q allows some of %s: %t, want %t", actions, pattern, got, some)
			}
			if p.AllowsRepository(pattern, ContentRead) && !some {
				t.Errorf("%q allows %s, and none of its names", actions, pattern)
			}
		}
	})
}
