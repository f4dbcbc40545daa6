//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"ferry/test/image"
	"ferry/test/instance"
)

// mirrored are repositories of a registry that mirrors two others, and has some of its own.
var mirrored = []string{"docker.io/library/app", "quay.io/team/app", "library/app", "team/app"}

// startMirror starts a root registry with an image of its own in each repository.
func startMirror(t *testing.T, args ...string) (*instance.Instance, map[string]*image.Image) {
	t.Helper()
	root := instance.Start(t, instance.Options{Args: args})
	images := map[string]*image.Image{}
	for i, repo := range mirrored {
		images[repo] = image.New(t, image.Options{Seed: uint64(70 + i), Layers: []int64{10_000, 1000}})
		push(t, root, repo, images[repo])
	}
	return root, images
}

// openTo lets clients on this machine pull repositories without credentials.
func openTo(t *testing.T, root *instance.Instance, repositories string) {
	t.Helper()
	root.Admin(t, "root").Run(t, "scope-map", "create", "--name", "open", "--repository", repositories,
		"content/read", "metadata/read", "--anonymous-from", "127.0.0.0/8")
}

// hostsDir returns a directory of containerd in which each registry has only the mirror at host.
func hostsDir(t *testing.T, host string, registries ...string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("server = %[1]q\n[host.%[1]q]\n  capabilities = [\"pull\", \"resolve\"]\n", "http://"+host)
	for _, name := range registries {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name, "hosts.toml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestContainerdPullsSeveralRegistriesFromOneMirror(t *testing.T) {
	root, images := startMirror(t)
	admin := root.AsAdmin(t)
	c := newContainerd(t, admin).(*containerd)
	hosts := hostsDir(t, root.Host, "docker.io", "quay.io", "ghcr.io")
	refs := map[string]string{
		"docker.io/library/app": "docker.io/library/app", "quay.io/team/app": "quay.io/team/app",
		"ghcr.io/team/app": "team/app", // nothing mirrors it, so the path decides
	}
	check := func(t *testing.T, namespace, name, repo string, flags ...string) {
		t.Helper()
		img := images[repo]
		got, err := c.pullWith(namespace, name+":"+img.Tag, append([]string{"--hosts-dir", hosts}, flags...)...)
		if err != nil || got != img.Digest {
			t.Errorf("%s: %s, %v; want that of %s, %s", name, got, err, repo, img.Digest)
		}
	}
	for name, repo := range refs {
		check(t, "login", name, repo, "--user", admin.User+":"+admin.Password)
	}
	if _, err := c.pullWith("none", "docker.io/library/app:"+images["library/app"].Tag, "--hosts-dir",
		hosts); err == nil {
		t.Error("a pull without credentials succeeded before it was allowed")
	}
	openTo(t, root, "docker.io/*")
	check(t, "anonymous", "docker.io/library/app", "docker.io/library/app")
	if _, err := c.pullWith("none", "quay.io/team/app:"+images["quay.io/team/app"].Tag, "--hosts-dir",
		hosts); err == nil {
		t.Error("an anonymous pull of a repository that is not open succeeded")
	}
}

func TestContainerdPullsFromPrefixesOfRegistries(t *testing.T) {
	root, images := startMirror(t, "--mirror-names", "docker.io=quay.io,quay.io=docker.io/library")
	push(t, root, "docker.io/library/team/app", images["team/app"])
	push(t, root, "quay.io/library/app", images["library/app"])
	admin := root.AsAdmin(t)
	c := newContainerd(t, admin).(*containerd)
	hosts := hostsDir(t, root.Host, "docker.io", "quay.io")
	for name, repo := range map[string]string{"docker.io/library/app": "library/app", "quay.io/team/app": "team/app"} {
		got, err := c.pullWith("login", name+":"+images[repo].Tag, "--hosts-dir", hosts, "--user",
			admin.User+":"+admin.Password)
		if err != nil || got != images[repo].Digest {
			t.Errorf("%s: %s, %v; want %s", name, got, err, images[repo].Digest)
		}
	}
}

func TestPodmanPullsAnonymouslyFromAMirror(t *testing.T) {
	root, images := startMirror(t)
	c := newPodman(t, root.AsAdmin(t)).(*podman)
	config := filepath.Join(c.dir, "registries.conf")
	var text strings.Builder
	for _, name := range []string{"docker.io", "quay.io"} {
		// The registry itself is blocked, so that only the mirror can answer.
		fmt.Fprintf(&text, "[[registry]]\nprefix = %[1]q\nlocation = \"127.0.0.1:1/%[1]s\"\ninsecure = true\n"+
			"[[registry.mirror]]\nlocation = \"%[2]s/%[1]s\"\ninsecure = true\n", name, root.Host)
	}
	if err := os.WriteFile(config, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	c.env = append(c.env, "CONTAINERS_REGISTRIES_CONF="+config)
	pull := func(repo string) (digest.Digest, error) {
		ref := repo + ":" + images[repo].Tag
		if _, err := c.run("pull", "--quiet", ref); err != nil {
			return "", err
		}
		out, err := c.run("image", "inspect", "--format", "{{.Digest}}", ref)
		return digest.Digest(strings.TrimSpace(out)), err
	}
	if _, err := pull("docker.io/library/app"); err == nil {
		t.Error("a pull without credentials succeeded before it was allowed")
	}
	openTo(t, root, "*")
	for _, repo := range []string{"docker.io/library/app", "quay.io/team/app"} {
		if got, err := pull(repo); err != nil || got != images[repo].Digest {
			t.Errorf("%s: %s, %v; want %s", repo, got, err, images[repo].Digest)
		}
	}
}

// A client without credentials pulls what is open, and nothing else. A wrong password is still
// refused.
func TestClientsPullAnonymously(t *testing.T) {
	root, images := startMirror(t)
	openTo(t, root, "quay.io/*")
	nobody := instance.Login{Host: root.Host}
	open, closed := images["quay.io/team/app"], images["team/app"]
	for name, pull := range map[string]func(t *testing.T, ref string) (digest.Digest, error){
		"skopeo": func(t *testing.T, ref string) (digest.Digest, error) { return newSkopeo(t, nobody).pull(ref) },
		"podman": func(t *testing.T, ref string) (digest.Digest, error) {
			c := newPodman(t, nobody).(*podman)
			if err := os.WriteFile(c.auth, []byte("{}"), 0o600); err != nil {
				return "", err
			}
			return c.pull(ref)
		},
		"crane": func(t *testing.T, ref string) (digest.Digest, error) { return newCrane(t, nobody).pull(ref) },
		"regctl": func(t *testing.T, ref string) (digest.Digest, error) {
			c := newRegctl(t, nobody).(*regctl)
			if _, err := c.run("registry", "set", "--skip-check", "--tls", "disabled", c.Host); err != nil {
				return "", err
			}
			return c.pull(ref)
		},
		"oras": func(t *testing.T, ref string) (digest.Digest, error) { return newOras(t, nobody).pull(ref) },
		"containerd": func(t *testing.T, ref string) (digest.Digest, error) {
			return newContainerd(t, nobody).(*containerd).pullWith("anonymous", ref, "--plain-http")
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := pull(t, root.Host+"/quay.io/team/app:"+open.Tag); err != nil || got != open.Digest {
				t.Errorf("%s, %v; want %s", got, err, open.Digest)
			}
			if got, err := pull(t, root.Host+"/team/app:"+closed.Tag); err == nil {
				t.Errorf("pulled what is not open: %s", got)
			}
		})
	}
	tags, err := newSkopeo(t, nobody).(*skopeo).run("list-tags", "--tls-verify=false",
		"docker://"+root.Host+"/quay.io/team/app")
	if err != nil || !strings.Contains(tags, open.Tag) {
		t.Errorf("tags %s, %v", tags, err)
	}
	catalog, err := newCrane(t, nobody).(*crane).run("catalog", root.Host)
	if err != nil || strings.TrimSpace(catalog) != "quay.io/team/app" {
		t.Errorf("catalog %q, %v", catalog, err)
	}
	wrong := root.AsAdmin(t)
	wrong.Password = "x" + wrong.Password[1:]
	for name, c := range map[string]client{"skopeo": newSkopeo(t, wrong), "podman": newPodman(t, wrong)} {
		if err := c.login(); err == nil {
			t.Errorf("%s logs in with a wrong password", name)
		}
	}
}

// A connected registry allows anonymous pulls as the root decided, with the root gone, unless its
// owner forbids them.
func TestConnectedRegistryAllowsAnonymousPulls(t *testing.T) {
	root, images := startMirror(t)
	sh := root.Admin(t, "root")
	openTo(t, root, "docker.io/*")
	sh.Run(t, "token", "create", "--name", "anonymous", "--scope-map", "open", "--no-passwords")
	options := instance.Connect(t, sh, "ship1", root.Host, []string{"docker.io/library/app"}, "--client-tokens",
		"anonymous").Options(instance.Options{DataDir: t.TempDir() + "/data"})
	img := images["docker.io/library/app"]
	ship := instance.Start(t, options)
	awaitImage(t, ship, "docker.io/library/app", img)
	root.Stop(t)
	ship.Stop(t)
	ref := "/docker.io/library/app:" + img.Tag
	for _, setting := range []string{"by-scope-map", "off"} {
		again := options
		again.Args = append(options.Args[:len(options.Args):len(options.Args)], "--anonymous", setting)
		ship = instance.Start(t, again)
		got, err := newSkopeo(t, instance.Login{Host: ship.Host}).pull(ship.Host + ref)
		if allowed := setting != "off"; allowed != (err == nil) || allowed && got != img.Digest {
			t.Errorf("%s: %s, %v", setting, got, err)
		}
		ship.Stop(t)
	}
}
