package server

import (
	"net/http/httptest"
	"testing"

	"ferry/internal/auth"
	"ferry/internal/config"
)

func TestAddressIsThatOfTheFirstTrustedProxy(t *testing.T) {
	const proxy, stranger = "10.0.0.1:7", "192.0.2.7:7"
	type headers map[string]string
	for _, test := range []struct {
		name, from, path        string
		headers                 headers
		external, prefix        string // settings
		address, wantPath, pref string
	}{
		{"direct", stranger, "/v2/", nil, "", "", "http://registry:5000", "/v2/", ""},
		{"headers of a stranger", stranger, "/v2/",
			headers{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil", "X-Forwarded-Prefix": "/evil",
				"Forwarded": "proto=https;host=evil"},
			"", "", "http://registry:5000", "/v2/", ""},
		{"headers of a proxy", proxy, "/v2/",
			headers{"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example", "X-Forwarded-Prefix": "/b/"},
			"", "", "https://a.example/b", "/v2/", "/b"},
		{"Forwarded of a proxy", proxy, "/v2/", headers{"Forwarded": `for=x;proto=https;host="a.example:8443"`},
			"", "", "https://a.example:8443", "/v2/", ""},
		{"two proxies", proxy, "/v2/",
			headers{"X-Forwarded-Proto": "https, http", "X-Forwarded-Host": "a.example, inner"},
			"", "", "https://a.example", "/v2/", ""},
		{"malformed headers", proxy, "/v2/",
			headers{"X-Forwarded-Proto": "ftp", "X-Forwarded-Host": `a"b`, "X-Forwarded-Prefix": "/a/../b"},
			"", "", "http://registry:5000", "/v2/", ""},
		{"path prefix", stranger, "/ferry/v2/a", nil, "", "/ferry", "http://registry:5000/ferry", "/v2/a", "/ferry"},
		{"path prefix alone", stranger, "/ferry", nil, "", "/ferry", "http://registry:5000/ferry", "/", "/ferry"},
		{"path without the prefix", stranger, "/v2/a", nil, "", "/ferry", "http://registry:5000", "/v2/a", ""},
		{"path that begins like the prefix", stranger, "/ferryman", nil, "", "/ferry", "http://registry:5000",
			"/ferryman", ""},
		{"prefix twice", stranger, "/ferry/ferry/v2/", nil, "", "/ferry", "http://registry:5000/ferry", "/ferry/v2/",
			"/ferry"},
		{"proxy that names the prefix and keeps it", proxy, "/ferry/v2/", headers{"X-Forwarded-Prefix": "/ferry"}, "",
			"/ferry", "http://registry:5000/ferry", "/v2/", "/ferry"},
		{"proxy with a path of its own", proxy, "/ferry/v2/", headers{"X-Forwarded-Prefix": "/a"},
			"", "/ferry", "http://registry:5000/a/ferry", "/v2/", "/a/ferry"},
		{"external URL", stranger, "/v2/", nil, "https://registry:5000/a/ferry", "", "https://registry:5000/a/ferry",
			"/v2/", "/a/ferry"},
		{"path of the external URL", stranger, "/a/ferry/v2/", nil, "https://registry:5000/a/ferry", "",
			"https://registry:5000/a/ferry", "/v2/", "/a/ferry"},
		{"path of another external URL", stranger, "/a/ferry/v2/", nil, "https://other/a/ferry", "",
			"http://registry:5000/a/ferry", "/v2/", "/a/ferry"},
		{"escaped path", stranger, "/ferry/v2/a%2fb", nil, "", "/ferry", "http://registry:5000/ferry", "/v2/a/b",
			"/ferry"},
	} {
		s, err := settingsOf(config.Config{TrustedProxies: "10.0.0.0/8", Spread: "off", ExternalURL: test.external,
			PathPrefix: test.prefix})
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest("GET", "http://registry:5000"+test.path, nil)
		r.RemoteAddr = test.from
		for name, value := range test.headers {
			r.Header.Set(name, value)
		}
		prefix := s.unproxy(r)
		got := addressFor(test.external)(r)
		if got != test.address || r.URL.Path != test.wantPath || prefix != test.pref {
			t.Errorf("%s: %s, %s, %s", test.name, got, r.URL.Path, prefix)
		}
		if r.Header.Get("X-Forwarded-Host") != "" || r.Header.Get(auth.HeaderPrefix) != prefix {
			t.Errorf("%s: headers are left: %v", test.name, r.Header)
		}
	}
}

// BenchmarkUnproxy measures a request of a client, without a proxy.
func BenchmarkUnproxy(b *testing.B) {
	s := &settings{}
	r := httptest.NewRequest("GET", "/v2/app/manifests/v1", nil)
	b.ReportAllocs()
	for b.Loop() {
		s.unproxy(r)
	}
}
