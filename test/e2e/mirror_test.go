//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"ferry/test/daemon"
	"ferry/test/image"
	"ferry/test/instance"
	"ferry/test/link"
)

// The login of registries that require one.
const (
	botUser     = "bot"
	botPassword = "hush-hush"
)

// tokenServer starts a server that issues tokens to the user, in the form that
// distribution requires, and returns the part of distribution's configuration for it.
func tokenServer(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, err := key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	coordinate := base64.RawURLEncoding.EncodeToString
	keys, err := json.Marshal(map[string]any{"keys": []map[string]any{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "test", "x": coordinate(public[1:33]),
		"y": coordinate(public[33:]),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "jwks.json")
	if err := os.WriteFile(file, keys, 0o600); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != botUser || password != botPassword {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		var access []map[string]any
		for _, scope := range r.URL.Query()["scope"] {
			if part := strings.Split(scope, ":"); len(part) == 3 {
				access = append(access,
					map[string]any{"type": part[0], "name": part[1], "actions": strings.Split(part[2], ",")})
			}
		}
		now := time.Now()
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
			"iss": "test", "sub": botUser, "aud": "test", "iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(),
			"exp": now.Add(time.Minute).Unix(), "jti": rand.Text(), "access": access,
		})
		token.Header["kid"] = "test"
		text, err := token.SignedString(key)
		if err != nil {
			t.Error(err)
		}
		json.NewEncoder(w).Encode(map[string]any{"token": text, "expires_in": 60})
	}))
	t.Cleanup(srv.Close)
	return fmt.Sprintf("auth:\n  token:\n    realm: %q\n    service: test\n    issuer: test\n    jwks: %q\n",
		srv.URL+"/token", file)
}

func TestRootMirrorsAndImportsFromDistribution(t *testing.T) {
	cert, key := certificate(t)
	tls := fmt.Sprintf("  tls: {certificate: %q, key: %q}\n", cert, key)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(botPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	root := startRoot(t)
	sh := root.Admin(t, "root")
	for name, from := range map[string]struct {
		auth, tls, scheme string
		flags             []string
	}{
		"open": {scheme: "http://"},
		"with-tokens": {auth: tokenServer(t), scheme: "http://",
			flags: []string{"--username", botUser, "--password", botPassword}},
		"private-authority": {tls: tls, flags: []string{"--ca-file", cert}},
	} {
		t.Run(name, func(t *testing.T) {
			host := daemon.Distribution(t, program(t, "registry"),
				daemon.DistributionConfig{Auth: from.auth, TLS: from.tls})
			img := image.New(t, image.Options{Seed: 50, Layers: []int64{100_000, 2_000_000}})
			skopeo := command{path: program(t, "skopeo"), args: []string{"--insecure-policy"}}
			if _, err := skopeo.run("copy", "--quiet", "--dest-tls-verify=false", "--dest-creds",
				botUser+":"+botPassword,
				"oci:"+img.Dir+":"+img.Tag, "docker://"+host+"/team/app:v1"); err != nil {
				t.Fatal(err)
			}
			source, repository := from.scheme+host+"/team/app", "mirrored/"+name
			sh.Run(t, append([]string{"mirror", "create", "-n", name, "--source", source, "--repository", repository},
				from.flags...)...)
			sh.Run(t, "mirror", "run", "-n", name, "--wait")
			sh.Run(t, append([]string{"import", "--source", source + ":v1", "--image", "imported/" + name + ":x"},
				from.flags...)...)
			for repo, tag := range map[string]string{repository: "v1", "imported/" + name: "x"} {
				got, err := root.AsAdmin(t).Pull(t.Context(), repo, tag)
				if err != nil || got != img.Digest {
					t.Errorf("%s:%s is %s, %v, want %s", repo, tag, got, err, img.Digest)
				}
			}
			if len(from.flags) == 0 {
				return
			}
			// Without the flags, the source refuses the import.
			if out, err := sh.Try(t, "import", "--source", source+":v1", "--image", "none:x"); err == nil {
				t.Errorf("the import succeeded: %s", out)
			}
		})
	}
}

func TestKilledMirrorRunResumesFromDisk(t *testing.T) {
	source := startRoot(t)
	img := image.New(t, image.Options{Seed: 51, Layers: []int64{killedLayer}})
	push(t, source, "team/app", img)
	login := source.AsAdmin(t)
	wan := link.Start(t, source.Host, "-down", "30mbit", "-rtt", "20ms")
	options := instance.Options{DataDir: t.TempDir() + "/data"}
	edge := instance.Start(t, options)
	// The next tick is months away: after a kill, only the retry of the interrupted run
	// can fetch the image.
	far := time.Now().UTC().AddDate(0, 6, 0)
	edge.Admin(t, "edge").Run(t, "mirror", "create", "-n", "app", "--source", "http://"+wan.Host+"/team/app",
		"--repository", "mirrored/app",
		"--schedule", far.Format("4 15 2 1 *"), "--username", login.User, "--password", login.Password)
	awaitImageUnderKills(t, 3, edge, options, wan, "mirrored/app", img)
}
