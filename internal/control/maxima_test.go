package control

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUnnamedMaximaHaveTheirDefaults(t *testing.T) {
	want := DefaultMaxima()
	if got, err := ParseMaxima(""); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	want.Tokens, want.Levels = 50_000, 3
	got, err := ParseMaxima("tokens=50000,levels=3")
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(err, diff)
	}
	for text, why := range map[string]string{
		"tokens": "want tokens=1", "tokens=0": "want tokens=1", "tokens=-1": "want tokens=1", "ships=3": "with one of",
		"levels=17": "levels=16", "tokens=1,tokens=2": "twice", "tokens=99999999999999999999": "want tokens=1",
	} {
		if _, err := ParseMaxima(text); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%q: %v, want %q", text, err, why)
		}
	}
}

func FuzzParseMaxima(f *testing.F) {
	f.Add("tokens=50000,levels=3")
	f.Add("permissions=1 scope-maps=2")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := ParseMaxima(text)
		if err != nil {
			return
		}
		for _, a := range m.all() {
			if *a.value < 1 || *a.value > a.atMost {
				t.Errorf("%q allows %d %s", text, *a.value, a.name)
			}
		}
	})
}
