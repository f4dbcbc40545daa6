package install_test

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"ferry/internal/config"
	"ferry/internal/install"
	"ferry/internal/wire"
)

var update = flag.Bool("update", false, "write the golden files anew")

const password = "s3cr3t=/+=="

// authority is the certificate of an authority, without a key.
const authority = `-----BEGIN CERTIFICATE-----
MIIBhzCCAS2gAwIBAgIUYzZ1/qnQlymtKrvTfCnKUYChEuIwCgYIKoZIzj0EAwIw
GTEXMBUGA1UEAwwOVGVzdCBhdXRob3JpdHkwHhcNMjYxMTI4MTY1OTA3WhcNMzYx
MTI1MTY1OTA3WjAZMRcwFQYDVQQDDA5UZXN0IGF1dGhvcml0eTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABMHHND71FF1MtlLp4N7XMWoFShwhZ3RuQ5g/YVWM9xKt
dJUXVIrcUYqs1v2Ss3Pv5Nki/KSy8HX+MSs3J10Cba2jUzBRMB0GA1UdDgQWBBQp
Ib5Twvo/x1srqnBmNfTs4nSM5jAfBgNVHSMEGDAWgBQpIb5Twvo/x1srqnBmNfTs
4nSM5jAPBgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0gAMEUCIQCN9dRv0lx7
qH8k5Mu+ay3KBIerkOr9+kF/E+gQGqTMjwIgYywXbX/R8/8cDxh/9Yj8hGX/0/RF
2z3SJu2SGEeL00o=
-----END CERTIFICATE-----
`

func connection() wire.ConnectionString {
	return wire.ConnectionString{Name: "Ship_1", Token: "ship1-sync", Password: password,
		Endpoint: "root.example:5000", Protocol: "https"}
}

// cases are the plans with golden files, by the name of their directory.
var cases = map[string]struct {
	place string
	install.Options
}{
	"compose": {"compose", install.Options{Image: "localhost/ferry:1.0"}},
	"compose-all": {"compose", install.Options{Image: "registry.example/ferry:1.0", HTTP: true, Port: 80,
		DataDir: "/srv/ferry", ExternalURL: "https://ship1.example/registry", Dir: "a b", ParentCA: authority}},
	"iotedge": {"iotedge", install.Options{Image: "root.example:5000/ferry:1.0",
		ExternalURL: "https://edge1.example:8000"}},
	"iotedge-nested": {"iotedge", install.Options{Image: "$upstream:5000/ferry:1.0", Nested: true, Port: 443,
		ExternalURL: "https://cell7.example", DataDir: "/srv/ferry"}},
	"systemd": {"systemd", install.Options{Program: "/opt/ferry/ferry"}},
	"systemd-all": {"systemd", install.Options{Program: "/home/me/ferry", Port: 443, DataDir: "/var/lib/registry",
		Names: []string{"ship1.example", "2001:db8::1"}, Dir: "ship1", ParentCA: authority}},
	"k8s": {"k8s", install.Options{}},
	"k8s-all": {"k8s", install.Options{Image: "registry.example/tools/ferry:1.0", HTTP: true,
		StorageClass: "local-path", StorageSize: "20Gi", ClusterIP: "10.43.0.50", Namespace: "registry",
		Dir: "/tmp/ship1", ParentCA: authority,
		Chart: "oci://registry.example/charts/connected-registry"}},
}

func plan(t *testing.T, name string) install.Plan {
	t.Helper()
	c := cases[name]
	c.Connection = connection()
	p, err := install.For(c.place, c.Options)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestFilesOfEachPlaceAreGolden(t *testing.T) {
	for name := range cases {
		t.Run(name, func(t *testing.T) {
			p := plan(t, name)
			files := append(p.Files, install.File{Name: "next", Text: strings.Join(p.Next, "\n") + "\n"})
			for _, f := range files {
				golden := filepath.Join("testdata", name, f.Name)
				if *update {
					if err := errors.Join(os.MkdirAll(filepath.Dir(golden), 0o755),
						os.WriteFile(golden, []byte(f.Text), 0o644)); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), f.Text); diff != "" {
					t.Errorf("%s: -want +got\n%s", golden, diff)
				}
			}
		})
	}
}

func TestPasswordIsInSecretFilesOnly(t *testing.T) {
	for name := range cases {
		p, secrets := plan(t, name), 0
		for _, f := range p.Files {
			if f.Secret {
				secrets++
			} else if strings.Contains(f.Text, password) {
				t.Errorf("%s: %s has the password", name, f.Name)
			}
		}
		if next := strings.Join(p.Next, "\n"); strings.Contains(next, password) {
			t.Errorf("%s: the commands have the password", name)
		}
		if secrets != 1 {
			t.Errorf("%s: %d files with secrets", name, secrets)
		}
	}
}

// The unit differs from that of the Debian package in its program, its data directory, its
// credential and its capabilities, and in nothing that hardens it.
func TestUnitIsHardenedLikeThePackage(t *testing.T) {
	unit := plan(t, "systemd").Files[0].Text
	lines := map[string]bool{}
	for line := range strings.Lines(unit) {
		lines[line] = true
	}
	for line := range strings.Lines(install.Unit) {
		if !lines[line] && !strings.HasPrefix(line, "ExecStart=") {
			t.Errorf("the unit has no line %q", line)
		}
	}
	if strings.Contains(unit, "/usr/bin/ferry") || !strings.Contains(unit, "LoadCredential=") {
		t.Errorf("the unit of the package was not adapted:\n%s", unit)
	}
}

func TestUnitMayAskForTheMachinesAddresses(t *testing.T) {
	for line := range strings.Lines(install.Unit) {
		if families, ok := strings.CutPrefix(line, "RestrictAddressFamilies="); ok &&
			!slices.Contains(strings.Fields(families), "AF_NETLINK") {
			t.Error("net.InterfaceAddrs fails, so the certificate of own-ca lacks the addresses")
		}
	}
}

func TestSettingsAreThoseOfServe(t *testing.T) {
	known := map[string]bool{}
	for _, s := range config.Settings() {
		known[s.Name], known[s.Env()] = true, true
	}
	var settings map[string]any
	if err := yaml.Load([]byte(plan(t, "systemd-all").Files[1].Text), &settings); err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct{ Environment map[string]any }
	}
	if err := yaml.Load([]byte(plan(t, "compose-all").Files[0].Text), &compose); err != nil {
		t.Fatal(err)
	}
	for name := range compose.Services["registry"].Environment {
		settings[name] = nil
	}
	if len(settings) < 4 {
		t.Errorf("only %v", settings)
	}
	for name := range settings {
		if !known[name] && name != "SSL_CERT_FILE" {
			t.Errorf("ferry serve has no setting %s", name)
		}
	}
}

// A manifest has the options of a container as a string of JSON.
func TestContainerOptionsOfAManifestAreJSON(t *testing.T) {
	var m struct {
		Content map[string]map[string]struct {
			Modules map[string]struct {
				Settings struct{ Image, CreateOptions string }
				Env      map[string]struct{ Value string }
			}
		} `json:"modulesContent"`
	}
	if err := json.Unmarshal([]byte(plan(t, "iotedge-nested").Files[0].Text), &m); err != nil {
		t.Fatal(err)
	}
	modules := m.Content["$edgeAgent"]["properties.desired"].Modules
	if len(modules) != 2 {
		t.Errorf("%d modules", len(modules))
	}
	for name, module := range modules {
		var options struct{ HostConfig map[string]any }
		text := module.Settings.CreateOptions
		if err := json.Unmarshal([]byte(text), &options); err != nil || options.HostConfig == nil {
			t.Errorf("%s: %q: %v", name, text, err)
		}
		if !strings.HasPrefix(module.Settings.Image, "$upstream:5000/") {
			t.Errorf("%s: the image %s is not the parent device's", name, module.Settings.Image)
		}
	}
	c, err := wire.ParseConnectionString(modules["connected-registry"].Env["ACR_REGISTRY_CONNECTION_STRING"].Value)
	if err != nil || c != connection() {
		t.Errorf("connection string %s, %v", c, err)
	}
}

func TestValuesThatWouldNotWorkAreRefused(t *testing.T) {
	for place, all := range map[string][]install.Options{
		"compose": {
			{}, {Image: "a b"}, {Image: "r.example/\"x"}, {Image: "$upstream/x:1"},
			{Image: "r.example/x", Port: 70000}, {Image: "r.example/x", DataDir: "data"},
			{Image: "r.example/x", DataDir: "/a:/etc"}, {Image: "r.example/x", DataDir: "/a/../etc"},
			{Image: "r.example/x", ParentCA: "hello"},
			{Image: "r.example/x", ParentCA: authority + "-----BEGIN PRIVATE KEY-----\n"},
			{Image: "r.example/x", Names: []string{"a b"}}, {Image: "r.example/x", Names: []string{"host:5000"}},
			{Image: "r.example/x", ExternalURL: "ship1"}, {Image: "r.example/x", ExternalURL: "https://a:b@h"},
			{Image: "r.example/x", ExternalURL: "https://${HOME}"},
		},
		"systemd": {{}, {Program: "ferry"}, {Program: "/a b"}, {Program: "/usr/bin/ferry", DataDir: "/srv/ferry"}},
		"iotedge": {{Image: "r.example/x"}, {ExternalURL: "https://h"}},
		"k8s": {
			{StorageClass: "A b"}, {StorageSize: "much"}, {ClusterIP: "10.0.0"}, {Namespace: "a.b"}, {Chart: "--set"},
		},
	} {
		for _, o := range all {
			o.Connection = connection()
			if _, err := install.For(place, o); err == nil {
				t.Errorf("%s: %+v: no error", place, o)
			}
		}
	}
	o := install.Options{Connection: connection()}
	o.Connection.Name = "ship_"
	if _, err := install.For("k8s", o); err == nil {
		t.Error("no error for a name that no service can have")
	}
}

func TestEarlierFilesAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new")
	p := plan(t, "systemd")
	write := func(force install.Force) error { _, err := p.Write(dir, force); return err }
	if err := errors.Join(write(install.Keep), write(install.Keep)); err != nil {
		t.Fatal(err) // the same content twice is no error
	}
	settings := filepath.Join(dir, "ferry.yaml")
	if err := errors.Join(os.Remove(filepath.Join(dir, "ferry.service")),
		os.WriteFile(settings, []byte("edited"), 0o644)); err != nil {
		t.Fatal(err)
	}
	err := write(install.Keep)
	if _, ok := errors.AsType[install.ExistsError](err); !ok {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "ferry.service")); err == nil {
		t.Error("a part of the files was written")
	}
	if text, _ := os.ReadFile(settings); string(text) != "edited" {
		t.Errorf("the edited file has %q", text)
	}
	if err := write(install.Replace); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(settings); string(text) == "edited" {
		t.Error("the file was not replaced")
	}
}

func TestOnlyTheOwnerReadsInstalledSecrets(t *testing.T) {
	for name := range cases {
		dir, p := t.TempDir(), plan(t, name)
		if _, err := p.Write(dir, install.Keep); err != nil {
			t.Fatal(err)
		}
		for _, f := range p.Files {
			info, err := os.Stat(filepath.Join(dir, f.Name))
			if err != nil {
				t.Fatal(err)
			}
			want := "-rw-r--r--"
			if f.Secret {
				want = "-rw-------"
			}
			if got := fmt.Sprint(info.Mode()); got != want {
				t.Errorf("%s: %s has the mode %s, want %s", name, f.Name, got, want)
			}
		}
	}
}
