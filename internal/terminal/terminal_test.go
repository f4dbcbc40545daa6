package terminal_test

import (
	"encoding/json"
	"strings"
	"testing"

	"ferry/internal/terminal"
)

const hostile = "a\x1b]0;x\a\x7f\u009b2J\u202egnp.exe\u2066\u061c\u2028b\nferry: c\tö 世 🚢"

func TestPrintableReplacesTerminalControls(t *testing.T) {
	if got, want := terminal.Printable(hostile+"\x9b"), "a ]0;x 2J gnp.exe b ferry: c ö 世 🚢\ufffd"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := terminal.PrintableLines("a\r\n\x1bb\n"), "a\nb\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add(hostile)
	f.Fuzz(func(t *testing.T, text string) {
		plain, err := json.Marshal(map[string]string{text: text})
		if err != nil {
			t.Fatal(err)
		}
		escaped := terminal.Escape(plain)
		if strings.ContainsFunc(string(escaped), terminal.IsControl) {
			t.Errorf("it passes %q", escaped)
		}
		var want, got map[string]string
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(escaped, &got); err != nil {
			t.Fatalf("%v: %s", err, escaped)
		}
		for key, value := range want {
			if got[key] != value {
				t.Errorf("%q became %q", want, got)
			}
		}
	})
}

func TestClipEndsAtACharacter(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aéb", 2, "a"}, {"aéb", 3, "aé"}, {"a\x80b", 3, "ab"}} {
		if got := terminal.Clip(c.text, c.most); got != c.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", c.text, c.most, got, c.want)
		}
	}
}

func TestExcerptEndsAtACharacter(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 3, ""}, {"abc", 3, "abc"}, {"abcd", 3, "abc..."}, {"aéb", 2, "a..."}, {"aéb", 3, "aé..."}, {"aé", 3, "aé"},
		{"é", 1, "..."}, {"\x80\x80", 1, "..."}, {"\x80\x80\x80\x80\x80\x80\x80", 6, "\x80\x80..."},
	} {
		if got := terminal.Excerpt(c.text, c.most); got != c.want {
			t.Errorf("Excerpt(%q, %d) = %q, want %q", c.text, c.most, got, c.want)
		}
	}
}
