package auth_test

import (
	"slices"
	"strings"
	"testing"

	"ferry/internal/auth"
)

func TestNetworksHaveACanonicalForm(t *testing.T) {
	got, err := auth.ParseNetworks([]string{
		"192.0.2.7", "10.0.0.0/8", " 10.0.0.0/8", "2001:DB8:0::/32", "::ffff:192.0.2.7", "0.0.0.0/0", "::/0", "::1",
	})
	want := []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.7/32", "::/0", "::1/128", "2001:db8::/32"}
	if texts := auth.NetworkTexts(got); err != nil || !slices.Equal(texts, want) {
		t.Errorf("got %v, %v; want %v", texts, err, want)
	}
	for text, word := range map[string]string{
		"": "want one such as", "office": "want one such as", "10.0.0.0/33": "want one such as",
		"10.0.0/8":     "want one such as",
		"10.1.2.3/8":   "want the whole network, 10.0.0.0/8, or one address, 10.1.2.3",
		"fe80::1%eth0": "want one such as", "fe80::%eth0/64": "want one such as",
		"::ffff:10.0.0.0/104": "in the form of IPv4", strings.Repeat("1", 1<<20): "want one such as",
	} {
		if got, err := auth.ParseNetworks([]string{text}); err == nil || !strings.Contains(err.Error(), word) ||
			len(err.Error()) > 300 {
			t.Errorf("%.80q is %v, %v; want an error with %q", text, got, err, word)
		}
	}
	if _, err := auth.ParseNetworks(make([]string, auth.MaxNetworks+1)); err == nil {
		t.Error("too many networks are accepted")
	}
}

func FuzzParseNetworks(f *testing.F) {
	for _, text := range []string{"10.0.0.0/8", "::ffff:1.2.3.4", "fe80::1%lo", "1.2.3.4/8", "::/0"} {
		f.Add(text, "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		got, err := auth.ParseNetworks([]string{a, b})
		if err != nil {
			return
		}
		again, err := auth.ParseNetworks(auth.NetworkTexts(got))
		if err != nil || !slices.Equal(again, got) {
			t.Errorf("%q, %q are %v, which are %v, %v", a, b, got, again, err)
		}
		for _, p := range got {
			if p != p.Masked() || p.Addr().Is4In6() || p.Addr().Zone() != "" {
				t.Errorf("%q, %q have %v", a, b, p)
			}
		}
	})
}
