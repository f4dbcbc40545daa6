//go:build cluster

package cluster_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ferry/test/cluster"
	"ferry/test/daemon"
)

var modes = map[string]cluster.Mode{"request": cluster.PerRequest, "connection": cluster.PerConnection}

func TestProxyTakesTurnsAndLeavesOutTheDead(t *testing.T) {
	var hosts []string
	for _, name := range []string{"a", "b"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			io.WriteString(w, name+" "+r.Host+" "+string(body))
		}))
		t.Cleanup(srv.Close)
		hosts = append(hosts, strings.TrimPrefix(srv.URL, "http://"))
	}
	hosts = append(hosts, daemon.FreeAddress(t)) // nothing listens there
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			p := cluster.StartProxy(t, mode, hosts...)
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: mode == cluster.PerConnection}}
			defer client.CloseIdleConnections()
			seen := map[string]int{}
			for range 12 {
				resp, err := client.Post("http://"+p.Host, "text/plain", strings.NewReader("body"))
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil {
					t.Fatal(err)
				}
				seen[string(text)]++
			}
			if seen["a "+p.Host+" body"]+seen["b "+p.Host+" body"] != 12 || len(seen) != 2 {
				t.Errorf("answers: %v", seen)
			}
		})
	}
}
