package subscription

import (
	"strings"
	"testing"
)

func TestFirstMatchingPriorityCounts(t *testing.T) {
	p, err := ParsePriorities([]string{"ops/nav=normal", "ops/*=urgent", "media/*=low", "web=high"})
	if err != nil {
		t.Fatal(err)
	}
	for repository, want := range map[string]Priority{
		"ops/nav": Normal, "ops/nav2": Urgent, "ops/a/b": Urgent, "ops": Normal, "media/film": Low, "web": High,
		"web/shop": Normal, "else": Normal,
	} {
		if got := p.Of(repository); got != want {
			t.Errorf("Of(%s) = %d, want %d", repository, got, want)
		}
	}
	if !p.AnyUrgent() || (Priorities{}).AnyUrgent() || (Priorities{}).Of("a") != Normal {
		t.Error("AnyUrgent, or the default priority, is wrong")
	}
	if all, err := ParsePriorities([]string{"*=low"}); err != nil || all.Of("any/thing") != Low {
		t.Errorf("*=low: %v, %v", all, err)
	}
}

func TestMalformedPriorityIsRefusedWithAnExample(t *testing.T) {
	for text, want := range map[string]string{
		"ops": "REPOSITORY=PRIORITY", "ops=soon": "urgent, high, normal, low", "=low": "the name of a repository",
		"a*b=low": "a prefix of names and a *",
		"a b=low": "a prefix of names", "": "REPOSITORY=PRIORITY",
		strings.Repeat("a", maxPriorityLength) + "=low": "too long",
	} {
		if _, err := ParsePriorities([]string{text}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want an error with %q", text, err, want)
		}
	}
	if _, err := ParsePriorities(make([]string, maxPriorities+1)); err == nil {
		t.Error("too many priorities are not refused")
	}
}

func FuzzParsePriorities(f *testing.F) {
	f.Add("ops/*=urgent", "ops/nav")
	f.Add("*=low", "")
	f.Fuzz(func(t *testing.T, text, repository string) {
		p, err := ParsePriorities([]string{text})
		if err == nil && (p.Of(repository) < Urgent || p.Of(repository) > Low) {
			t.Errorf("%q gives %q an unknown priority", text, repository)
		}
	})
}
