package server

import (
	"net/http/httptest"
	"testing"

	"ferry/internal/config"
)

func TestOnlyTrustedProxiesNameTheSender(t *testing.T) {
	trusted, err := config.ParseProxies("10.0.0.0/8, 2001:db8::/32 127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, peer, forwardedFor, forwarded, want string }{
		{"no proxy", "192.0.2.1:7", "", "", "192.0.2.1:7"},
		{"a stranger's word", "192.0.2.1:7", "198.51.100.1", "", "192.0.2.1:7"},
		{"a proxy that says nothing", "10.0.0.1:7", "", "", "10.0.0.1:7"},
		{"a proxy", "10.0.0.1:7", "198.51.100.1", "", "198.51.100.1:0"},
		{"a proxy of IPv6", "[2001:db8::1]:7", "2001:db9::2", "", "[2001:db9::2]:0"},
		{"what a client made up before a proxy", "10.0.0.1:7", "127.0.0.1, 203.0.113.9, 198.51.100.1", "",
			"198.51.100.1:0"},
		{"two proxies", "10.0.0.1:7", "203.0.113.9, 198.51.100.1, 10.9.9.9", "", "198.51.100.1:0"},
		{"proxies alone", "10.0.0.1:7", "10.0.0.3, 10.0.0.2", "", "10.0.0.3:0"},
		{"with ports", "10.0.0.1:7", "198.51.100.1:80", "", "198.51.100.1:0"},
		{"with brackets", "10.0.0.1:7", "[2001:db9::1]:80", "", "[2001:db9::1]:0"},
		{"nonsense", "10.0.0.1:7", "198.51.100.1, unknown", "", "10.0.0.1:7"},
		{"Forwarded", "10.0.0.1:7", "", `for=203.0.113.9, proto=https;For="[2001:db9::1]:80";by=x`, "[2001:db9::1]:0"},
		{"an element without an address", "10.0.0.1:7", "", "for=203.0.113.9, proto=https", "10.0.0.1:7"},
		{"both agree", "10.0.0.1:7", "198.51.100.1", "for=198.51.100.1", "198.51.100.1:0"},
		{"both differ", "10.0.0.1:7", "198.51.100.1", "for=203.0.113.9", "10.0.0.1:7"},
		{"loopback", "127.0.0.1:7", "198.51.100.1", "", "198.51.100.1:0"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = test.peer
		if test.forwardedFor != "" {
			r.Header.Set("X-Forwarded-For", test.forwardedFor)
		}
		if test.forwarded != "" {
			r.Header.Set("Forwarded", test.forwarded)
		}
		if got := proxies(trusted).sender(r); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

func FuzzSender(f *testing.F) {
	f.Add("10.0.0.1, [::1]:80", `for="[::1]";by=x`)
	trusted, err := config.ParseProxies("10.0.0.0/8")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, forwardedFor, forwarded string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = "10.0.0.1:7"
		r.Header["X-Forwarded-For"] = []string{forwardedFor}
		r.Header["Forwarded"] = []string{forwarded}
		r.RemoteAddr = proxies(trusted).sender(r)
		if again := proxies(nil).sender(r); again != r.RemoteAddr {
			t.Errorf("%q becomes %q", r.RemoteAddr, again)
		}
	})
}
