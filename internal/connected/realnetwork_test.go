package connected_test

import (
	"net"
	"net/http"
	"testing"
	"time"

	"ferry/internal/api"
	"ferry/internal/metadb"
	"ferry/internal/metadb/dbtest"
)

// TestImageSyncsOverARealNetwork repeats the tests in memory in short, with sockets and on each
// database.
func TestImageSyncsOverARealNetwork(t *testing.T) {
	dbtest.Run(t, func(t *testing.T, db *metadb.DB) {
		other := dbtest.SQLite
		if t.Name() == "TestImageSyncsOverARealNetwork/postgres" {
			other = dbtest.Postgres
		}
		root, ship := newInstance(t, "", db), newInstance(t, "ship1", other(t))
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		parent := &http.Server{Handler: root.handler}
		go parent.Serve(l)
		defer parent.Close()
		c := root.connectedRegistry("ship1",
			api.RegistryPut{Repositories: []string{"app/*"},
				ClientTokens: []string{root.clientToken("reader", "app/*")}})
		c.Endpoint = l.Addr().String()
		d := root.push("app/a", "1", "v1", 3<<20, 100)
		root.startAt(ship, c, nil)
		ship.awaitTag("app/a", "v1", d)
		second := root.push("app/a", "2", "v1", 1<<20)
		start := time.Now()
		ship.awaitTag("app/a", "v1", second)
		t.Logf("a moved tag took %v", time.Since(start))
		await(t, "the client token is here", func() bool {
			_, err := ship.control.Directory().Authenticate(t.Context(), "reader", root.password)
			return err == nil
		})
		parent.Close()
		clients, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		local := &http.Server{Handler: ship.handler}
		go local.Serve(clients)
		defer local.Close()
		r, err := http.NewRequest(http.MethodGet, "http://"+clients.Addr().String()+"/v2/app/a/manifests/v1", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.SetBasicAuth("reader", root.password)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode != http.StatusOK || got != string(second) {
			t.Errorf("pull with the parent gone: %s, digest %s; want 200, %s", resp.Status, got, second)
		}
	})
}
