package outbound

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestAddressesAreGroupedByNetwork(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1": "127.0.0.0/8", "127.9.9.9": "127.0.0.0/8", "::1": "::1/128", "::ffff:127.0.0.1": "127.0.0.0/8",
		"0.0.0.0": "0.0.0.0/8", "::": "::/128", "10.1.2.3": "10.0.0.0/8", "172.31.0.1": "172.16.0.0/12",
		"192.168.1.1": "192.168.0.0/16", "169.254.169.254": "169.254.0.0/16", "100.100.100.200": "100.64.0.0/10",
		"fe80::1%eth0": "fe80::/10", "fd00:ec2::254": "fc00::/7", "ff02::1": "ff00::/8",
		"255.255.255.255":    "224.0.0.0/3",
		"64:ff9b::a9fe:a9fe": "169.254.0.0/16", "2002:7f00:1::": "127.0.0.0/8", "168.63.129.16": "168.63.129.16/32",
		"8.8.8.8": "", "172.32.0.1": "", "2001:4860::8888": "", "64:ff9b::808:808": "", "2002:808:808::": "",
	} {
		got := privateNetwork(netip.MustParseAddr(address))
		if got.IsValid() != (want != "") || got.IsValid() && got.String() != want {
			t.Errorf("%s is in %s, want %q", address, got, want)
		}
	}
}

// redirecting returns a client of a registry on this machine that redirects to where,
// and the registry's URL.
func redirecting(t *testing.T, where string) (*http.Client, string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			http.Redirect(w, r, where, http.StatusTemporaryRedirect)
		}
	}))
	t.Cleanup(s.Close)
	home, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: Dial(net.Dialer{Timeout: time.Second})}
	t.Cleanup(transport.CloseIdleConnections)
	return NewClient(home, transport), s.URL
}

func TestRedirectToPrivateAddressIsRefused(t *testing.T) {
	for _, where := range []string{
		"http://169.254.169.254/latest/meta-data/", "http://192.168.1.1/", "http://10.0.0.1:8080/",
		"https://172.16.0.1/",
		"http://[fd00::1]/", "http://[fe80::1]/", "http://[::ffff:10.0.0.1]/", "http://0.0.0.0/",
	} {
		c, home := redirecting(t, where)
		began := time.Now()
		resp, err := c.Get(home)
		if err == nil {
			resp.Body.Close()
			t.Errorf("%s was asked", where)
			continue
		}
		var refusal *RefusedError
		// A machine without IPv6 has no address to dial from.
		if !errors.As(err, &refusal) && !strings.Contains(where, "[") {
			t.Errorf("%s: %v after %s", where, err, time.Since(began))
		}
	}
}

func TestRedirectWithinTheSameNetworkIsFollowed(t *testing.T) {
	blobs := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer blobs.Close()
	for _, where := range []string{blobs.URL, "/blobs"} {
		c, home := redirecting(t, where)
		resp, err := c.Get(home)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", where, resp.Status)
		}
	}
}

func TestProxyMayDialAnyAddress(t *testing.T) {
	var asked []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asked = append(asked, r.URL.Host); r.URL.Host == "parent.example" {
			http.Redirect(w, r, "http://blobs.example/x", http.StatusTemporaryRedirect)
		}
	}))
	defer proxy.Close()
	at, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{Proxy: http.ProxyURL(at), DialContext: Dial(net.Dialer{}), DisableKeepAlives: true}
	home := &url.URL{Scheme: "http", Host: "parent.example"}
	resp, err := NewClient(home, transport).Get(home.String())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if len(asked) != 2 || asked[1] != "blobs.example" {
		t.Errorf("it was asked for %v", asked)
	}
	// A proxy on this machine does not make this machine's other ports allowed.
	m := requestInfo{&guard{registry: "parent.example:80", proxies: map[string]bool{},
		networks: map[netip.Prefix]bool{}},
		false}
	if err := m.check("127.0.0.1:3128", "127.0.0.1:3128"); err != nil {
		t.Error(err)
	}
	m.redirected = true
	if m.check("127.0.0.1:3128", "127.0.0.1:3128") != nil || m.check("127.0.0.1:5432", "127.0.0.1:5432") == nil {
		t.Error("the proxy was refused, or another port was not")
	}
}

func TestOnlyGetAndHeadAreRedirected(t *testing.T) {
	c, home := redirecting(t, "/elsewhere")
	resp, err := c.Post(home, "", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect {
		t.Error(resp.Status)
	}
}
