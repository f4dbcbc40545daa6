package auth

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func limits(t interface{ Fatal(...any) }, repositories, labels []string) Limits {
	l, err := ReadLimits(repositories, labels)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestNoLimitsAllowEverything(t *testing.T) {
	var l Limits
	if l.Any() || !l.Covers("*") || !l.HasRegistry(nil) || !l.CoversAll(l) {
		t.Errorf("%+v", l)
	}
}

func TestLimitsAllowNothingElse(t *testing.T) {
	team := limits(t, []string{"team/*", "base"}, nil)
	for pattern, want := range map[string]bool{
		"team/app": true, "team/app/*": true, "team/*": true, "base": true,
		"base/*": false, "basement": false, "team": false, "other/app": false, "*": false, "teams/*": false,
	} {
		if team.Covers(pattern) != want {
			t.Errorf("team/* covers %s: %t", pattern, !want)
		}
	}
	if team.HasRegistry(map[string]string{"group": "baltic"}) || Nothing().Covers("a") || Nothing().HasRegistry(nil) {
		t.Error("limits allow what they do not name")
	}
	baltic := limits(t, nil, []string{"group=baltic", "tier=1"})
	for _, test := range []struct {
		labels map[string]string
		want   bool
	}{
		{nil, false}, {map[string]string{"group": "north"}, false}, {map[string]string{"group": ""}, false},
		{map[string]string{"group": "baltic"}, true}, {map[string]string{"tier": "1", "group": "north"}, true},
	} {
		if baltic.HasRegistry(test.labels) != test.want {
			t.Errorf("%v: %t", test.labels, !test.want)
		}
	}
	if baltic.Covers("a") {
		t.Error("a limit to labels allows a repository")
	}
}

func TestMalformedLimitsAreRefused(t *testing.T) {
	for _, test := range [][2][]string{
		{{"team/**"}, nil}, {{""}, nil}, {{"!team/x"}, nil}, {{"*a"}, nil}, {{"A"}, nil},
		{nil, {"group"}}, {nil, {"=x"}}, {nil, {"group="}}, {nil, {"a b=c"}}, {nil, {"a=\x1b"}},
		{slices.Repeat([]string{"a"}, maxLimits+1), nil},
	} {
		if l, err := ReadLimits(test[0], test[1]); err == nil {
			t.Errorf("%q: %+v", test, l)
		}
	}
}

// drawLimits draws limits over few names, so that they often overlap.
func drawLimits(t *rapid.T, name string) Limits {
	patterns := rapid.SliceOfN(rapid.SampledFrom([]string{"*", "a", "a/*", "a/b", "a/b/*", "b/*", "b/c"}), 0, 3)
	labels := rapid.SliceOfN(rapid.SampledFrom([]string{"g=x", "g=y", "h=x"}), 0, 2)
	return limits(t, patterns.Draw(t, name+" repositories"), labels.Draw(t, name+" labels"))
}

func TestCombinedLimitsAllowNoMoreThanEither(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, m := drawLimits(t, "l"), drawLimits(t, "m")
		both, within := l.And(m), Everything.Within(l.And(m))
		for _, name := range []string{"a", "a/b", "a/b/c", "b", "b/c", "c"} {
			if want := l.Covers(name) && m.Covers(name); both.Covers(name) != want ||
				within.AllowsRepository(name, ContentDelete) != want {
				t.Errorf("%s: want %t of %+v and %+v", name, want, l, m)
			}
			if l.CoversAll(m) && m.Covers(name) && !l.Covers(name) {
				t.Errorf("%+v covers %+v, but not %s", l, m, name)
			}
		}
		for _, labels := range []map[string]string{
			nil, {"g": "x"}, {"g": "y"}, {"h": "x"}, {"g": "x", "h": "x"}, {"g": "y", "h": "x"},
		} {
			if want := l.HasRegistry(labels) && m.HasRegistry(labels); both.HasRegistry(labels) != want {
				t.Errorf("%v: want %t of %+v and %+v", labels, want, l, m)
			}
			if l.CoversAll(m) && m.HasRegistry(labels) && !l.HasRegistry(labels) {
				t.Errorf("%+v covers %+v, but not %v", l, m, labels)
			}
		}
	})
}
