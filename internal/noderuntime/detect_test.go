package noderuntime

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// newNode returns a node whose file system has the files of a txtar archive. A line
// "PATH -> TARGET" of its comment is a symbolic link.
func newNode(t *testing.T, archive string) *Node {
	t.Helper()
	n := &Node{Root: t.TempDir()}
	a := txtar.Parse([]byte(archive))
	for _, f := range a.Files {
		path := filepath.Join(n.Root, f.Name)
		if strings.HasSuffix(f.Name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for line := range strings.Lines(string(a.Comment)) {
		if path, target, ok := strings.Cut(strings.TrimSpace(line), " -> "); ok {
			path = filepath.Join(n.Root, path)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(target, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

func TestDetectFindsTheRowOfEachConfiguration(t *testing.T) {
	const v2 = "version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\n"
	const v3 = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"
	for _, test := range []struct {
		name, version, archive string
		registries             []string
		runtime                Kind
		found                  string
		live                   bool
		files                  []string
	}{
		{name: "one directory", version: "containerd://1.7.27",
			archive: "-- etc/containerd/config.toml --\n" + v2 + "config_path = '/etc/containerd/certs.d'\n",
			runtime: Containerd, found: "config_path with one directory", live: true,
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "two directories that are split", version: "1.7.27",
			archive: "-- etc/containerd/config.toml --\n" + v2 + "config_path = '/a/certs.d:/b'\n",
			runtime: Containerd, found: "config_path with several directories", live: true,
			files: []string{"/a/certs.d/HOST/hosts.toml"}},
		{name: "two directories that are not split", version: "2.1.0",
			archive: "-- etc/containerd/config.toml --\n" + v3 + "config_path = '/a/certs.d:/b'\n",
			runtime: Containerd, found: "config_path with several directories", live: true,
			files: []string{"/a/certs.d/HOST/hosts.toml", "/a/certs.d:/b -> /a/certs.d"}},
		{name: "the default of 2.2", version: "2.4.2", archive: "-- etc/containerd/ --\n",
			runtime: Containerd, found: "no config_path", live: true,
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml",
				"/etc/containerd/certs.d:/etc/docker/certs.d -> /etc/containerd/certs.d"}},
		{name: "the directory at the place of the link", version: "2.4.2",
			archive: "-- etc/containerd/certs.d:/etc/docker/certs.d/a/hosts.toml --\n",
			runtime: Containerd, found: "no config_path", live: true,
			files: []string{"/etc/containerd/certs.d:/etc/docker/certs.d/HOST/hosts.toml"}},
		{name: "nothing before 2.2", version: "2.0.5",
			archive: "-- etc/containerd/config.toml --\nversion = 3\n",
			runtime: Containerd, found: "no config_path",
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml", "/etc/containerd/config.toml"}},
		{name: "nothing and an unknown version", archive: "-- etc/containerd/config.toml --\nversion = 2\n",
			runtime: Containerd, found: "no config_path", live: true,
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml",
				"/etc/containerd/certs.d:/etc/docker/certs.d -> /etc/containerd/certs.d"}},
		{name: "legacy mirrors", version: "1.6.20",
			archive: "-- etc/containerd/config.toml --\n" + v2 +
				"[plugins.'io.containerd.grpc.v1.cri'.registry.mirrors.'docker.io']\n" +
				"endpoint = ['https://mirror.example']\n",
			runtime: Containerd, found: "registry.mirrors in config.toml",
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "an imported file takes precedence", version: "2.4.2",
			archive: "-- etc/containerd/config.toml --\nimports = ['conf.d/*.toml']\n" + v3 + "config_path = '/a'\n" +
				"-- etc/containerd/conf.d/x.toml --\n" + v3 + "config_path = '/x'\n",
			runtime: Containerd, found: "config_path with one directory", live: true,
			files: []string{"/x/HOST/hosts.toml"}},
		{name: "Docker's own containerd", version: "1.7.0",
			archive: "-- etc/containerd/config.toml --\ndisabled_plugins = ['cri']\n",
			runtime: Containerd, found: "the CRI plugin is disabled",
			files: []string{"/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "K3s without a registries file", archive: "-- etc/rancher/k3s/ --\n", registries: []string{"docker.io"},
			runtime: K3s, found: "registries.yaml does not name the registry", live: true,
			files: []string{"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "K3s that names the registry", registries: []string{"docker.io"},
			archive: "-- etc/rancher/k3s/registries.yaml --\nmirrors:\n  docker.io:\n",
			runtime: K3s, found: "registries.yaml names the registry", live: true,
			files: []string{"/etc/rancher/k3s/registries.yaml",
				"/var/lib/rancher/k3s/agent/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "K3s with its own registry, and elsewhere", registries: []string{"docker.io"},
			archive: "-- etc/rancher/k3s/config.yaml --\nembedded-registry: true\ndata-dir: /data\n" +
				"private-registry: /data/r.yaml\n",
			runtime: K3s, found: "embedded-registry is on", live: true,
			files: []string{"/data/r.yaml", "/data/agent/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "RKE2", archive: "-- var/lib/rancher/rke2/ --\n",
			runtime: RKE2, found: "registries.yaml does not name the registry", live: true,
			files: []string{"/var/lib/rancher/rke2/agent/etc/containerd/certs.d/HOST/hosts.toml"}},
		{name: "MicroK8s", archive: "var/snap/microk8s/current -> 6750\n" +
			"-- var/snap/microk8s/6750/args/containerd-template.toml --\n" + v3 +
			"config_path = '${SNAP_DATA}/args/certs.d'\n",
			runtime: MicroK8s, found: "config_path in the template", live: true,
			files: []string{"/var/snap/microk8s/current/args/certs.d/HOST/hosts.toml"}},
		{name: "CRI-O", archive: "-- etc/crio/ --\n", runtime: CRIO, found: "auto_reload_registries is off",
			files: []string{"/etc/containers/certs.d/HOST/ferry-HASH.crt",
				"/etc/containers/registries.conf.d/zz-ferry-client.conf"}},
		{name: "CRI-O that reloads", runtime: CRIO, found: "auto_reload_registries is on", live: true,
			archive: "-- etc/crio/crio.conf.d/10.conf --\n[crio.image]\nauto_reload_registries = true\n",
			files: []string{"/etc/containers/certs.d/HOST/ferry-HASH.crt",
				"/etc/containers/registries.conf.d/zz-ferry-client.conf"}},
		{name: "Docker", archive: "-- etc/docker/daemon.json --\n{}\n", runtime: Docker, found: "any",
			files: []string{"/etc/docker/certs.d/HOST/ferry-HASH.crt", "/etc/docker/daemon.json"}},
		{name: "Podman", archive: "-- usr/bin/podman --\n", runtime: Podman, found: "any", live: true,
			files: []string{"/etc/containers/certs.d/HOST/ferry-HASH.crt",
				"/etc/containers/registries.conf.d/zz-ferry-client.conf"}},
		{name: "Talos", archive: "-- etc/os-release --\nNAME=\"Talos\"\nID=talos\n", runtime: Talos, found: "any"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := newNode(t, test.archive)
			n.Version = test.version
			found := n.Detect(t.Context(), test.registries...)
			if len(found) != 1 {
				t.Fatalf("found %d runtimes, want one: %+v", len(found), found)
			}
			r := found[0]
			if r.Runtime != test.runtime || r.Found != test.found || r.Live != test.live {
				t.Errorf("found %s, %q, live %t; want %s, %q, live %t", r.Runtime, r.Found, r.Live, test.runtime,
					test.found, test.live)
			}
			if !r.Live && r.Step == "" {
				t.Error("the row says no step that makes the files effective")
			}
			if diff := cmp.Diff(test.files, r.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDetectAsksTheProgramsOfTheMachine(t *testing.T) {
	n := newNode(t, "-- etc/containerd/config.toml --\nversion = 2\n")
	n.Execute = func(_ context.Context, name string, args ...string) ([]byte, error) {
		switch name + " " + strings.Join(args, " ") {
		case "containerd --version":
			return []byte("containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3\n"), nil
		case "containerd --config /etc/containerd/config.toml config dump":
			return []byte("version = 2\n[plugins.'io.containerd.grpc.v1.cri'.registry]\nconfig_path = '/dumped'\n"), nil
		}
		return nil, errors.New("not found")
	}
	r := n.Detect(t.Context())[0]
	if r.Version != "1.6.20" || r.Files[0] != "/dumped/HOST/hosts.toml" {
		t.Errorf("found version %q and files %v", r.Version, r.Files)
	}
}

func TestTableHasARowForEverything(t *testing.T) {
	for _, k := range Kinds() {
		kinds := map[Kind][]found{
			Containerd: {oneRoot, severalRoots, noRoot, legacyMirrors, criDisabled},
			K3s:        {notNamed, named, embedded},
			RKE2:       {notNamed, named, embedded},
			MicroK8s:   {oneRoot, noRoot},
			CRIO:       {noReload, reloadsByItself},
		}[k]
		if kinds == nil {
			kinds = []found{anything}
		}
		for _, f := range kinds {
			for _, v := range []version{{}, {1}, {1, 6, 20}, {2, 0, 5}, {2, 1, 0}, {2, 2, 0}, {2, 4, 2}, {20, 10, 24}} {
				rowOf(k, v, f)
			}
		}
	}
}

func TestLinksOfAMountedMachineStayInIt(t *testing.T) {
	n := newNode(t, "etc/containerd -> /opt/containerd\nopt/up -> ../../../../../../etc/docker\n"+
		"-- opt/containerd/config.toml --\nversion = 3\n-- etc/docker/daemon.json --\n{}\n")
	for path, want := range map[string]string{
		"/etc/containerd/config.toml": "version = 3\n",
		"/opt/up/daemon.json":         "{}\n",
	} {
		if got, err := n.read(path); string(got) != want {
			t.Errorf("%s has %q, %v; want %q", path, got, err, want)
		}
	}
}

func TestAutomaticLeavesDockerOfADaemonSetAlone(t *testing.T) {
	const files = "-- etc/containerd/config.toml --\nversion = 3\n-- etc/docker/daemon.json --\n{}\n"
	for _, test := range []struct {
		archive string
		want    []Kind
	}{
		{files, []Kind{Containerd}},
		{files + "-- etc/rancher/k3s/ --\n", []Kind{Containerd, K3s}},
		{"-- etc/containerd/config.toml --\ndisabled_plugins = ['cri']\n-- etc/crio/ --\n", []Kind{CRIO}},
		{"-- etc/crio/ --\n-- etc/machine-config-daemon/ --\n", []Kind{OpenShift}},
	} {
		n := newNode(t, test.archive)
		n.Version = "2.4.2"
		var got []Kind
		for _, r := range n.Automatic(n.Detect(t.Context())) {
			got = append(got, r.Runtime)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.archive, diff)
		}
	}
}
