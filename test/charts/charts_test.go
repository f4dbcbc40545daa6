//go:build charts

// Package charts renders the charts with helm: over a matrix of values against golden files, and
// with values that make no sense.
package charts

import (
	"bytes"
	"encoding/base64"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"ferry/internal/cli"
	"ferry/internal/config"
	"ferry/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// charts are the directories of the charts, by name.
var charts = map[string]string{
	"connected-registry": "../../charts/connected-registry",
	"registry":           "../../charts/registry",
}

// helm runs helm and returns its standard output.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := filepath.Abs("../../.tools/helm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("helm is not installed: make charts")
		}
		t.Skip("helm is not installed: make charts")
	}
	cmd := exec.Command(path, args...)
	home := t.TempDir()
	cmd.Env = append(os.Environ(), "HELM_CONFIG_HOME="+home, "HELM_CACHE_HOME="+home, "HELM_DATA_HOME="+home,
		"KUBECONFIG="+filepath.Join(home, "none"))
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok {
		return string(out), &failure{strings.Join(args, " "), string(exit.Stderr)}
	}
	return string(out), err
}

// A failure is a run of helm that failed.
type failure struct{ args, stderr string }

func (f *failure) Error() string { return "helm " + f.args + ": " + f.stderr }

// render returns the manifests of a chart. The release is called like that of the user story.
func render(t *testing.T, chart string, args ...string) (string, error) {
	t.Helper()
	return helm(t, append([]string{"template", "connected-acr", charts[chart], "-n", "connected-registry",
		"--kube-version", "1.37"}, args...)...)
}

// cases calls f with each file of values.
func cases(t *testing.T, f func(t *testing.T, chart, values string)) {
	files, err := filepath.Glob("testdata/*/*.values.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files of values, %v", len(files), err)
	}
	for _, file := range files {
		chart := filepath.Base(filepath.Dir(file))
		t.Run(chart+"/"+strings.TrimSuffix(filepath.Base(file), ".values.yaml"), func(t *testing.T) {
			f(t, chart, file)
		})
	}
}

func TestChartsRenderTheGoldenFiles(t *testing.T) {
	cases(t, func(t *testing.T, chart, values string) {
		got, err := render(t, chart, "-f", values)
		if err != nil {
			t.Fatal(err)
		}
		golden := strings.TrimSuffix(values, ".values.yaml") + ".golden.yaml"
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), got); diff != "" {
			t.Errorf("make charts UPDATE=1 accepts this:\n%s", diff)
		}
	})
}

func TestChartsPassHelmsStrictLint(t *testing.T) {
	cases(t, func(t *testing.T, chart, values string) {
		if out, err := helm(t, "lint", "--strict", "--quiet", charts[chart], "-f", values); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// The DaemonSet writes the nodes' files, so its namespace cannot be "restricted".
func TestManifestsAreStrictAndPodsRestricted(t *testing.T) {
	program := filepath.Join(t.TempDir(), "strict")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Dir = "strict"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cases(t, func(t *testing.T, chart, values string) {
		text, err := render(t, chart, "-f", values)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "connected-acr-nodes")
		cmd.Stdin = strings.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
}

// A manifest is the part of a manifest that these tests look at.
type manifest struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Data     map[string]string
	Rules    []struct {
		Resources     []string
		ResourceNames []string `yaml:"resourceNames"`
		Verbs         []string
	}
	Spec struct {
		Template struct {
			Spec struct {
				ImagePullSecrets []struct{ Name string } `yaml:"imagePullSecrets"`
				Containers       []struct {
					Image string
					Args  []string
				}
			}
		}
	}
}

func parse(t *testing.T, text string) (all []manifest) {
	t.Helper()
	for _, part := range strings.Split(text, "\n---\n") {
		var m manifest
		if err := yaml.Load([]byte(part), &m); err != nil {
			t.Fatalf("%v\n%s", err, part)
		}
		all = append(all, m)
	}
	return all
}

// find returns the manifest of a kind; a missing one fails the test.
func find(t *testing.T, all []manifest, kind string) manifest {
	t.Helper()
	i := slices.IndexFunc(all, func(m manifest) bool { return m.Kind == kind })
	if i < 0 {
		t.Fatalf("there is no %s", kind)
	}
	return all[i]
}

func TestArgumentsAreSettingsOfTheProgram(t *testing.T) {
	var settings []string
	for _, s := range config.Settings() {
		settings = append(settings, s.Name)
	}
	cases(t, func(t *testing.T, chart, values string) {
		text, err := render(t, chart, "-f", values)
		if err != nil {
			t.Fatal(err)
		}
		args := find(t, parse(t, text), "Deployment").Spec.Template.Spec.Containers[0].Args
		for _, arg := range args[1:] {
			name, value, ok := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
			if !ok || value == "" || !slices.Contains(settings, name) {
				t.Errorf("ferry serve has no setting %s", arg)
			}
		}
	})
}

// The command stops at --help, after it has read the other flags.
func TestTheDaemonSetsArgumentsAreUnderstood(t *testing.T) {
	count := 0
	cases(t, func(t *testing.T, chart, values string) {
		text, err := render(t, chart, "-f", values)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range parse(t, text) {
			if m.Kind != "DaemonSet" {
				continue
			}
			count++
			var stderr bytes.Buffer
			env := &cli.Env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &stderr,
				LookupEnv: cli.Variables(nil)}
			args := m.Spec.Template.Spec.Containers[0].Args
			if code := cli.Run(t.Context(), append(args, "--help"), env); code != 0 {
				t.Errorf("ferry %s: exit code %d: %s", strings.Join(args, " "), code, stderr.String())
			}
			// Unlike --help, the runtime's name is checked only when the command runs.
			if !slices.Contains([]string{"auto", "containerd", "k3s", "rke2", "microk8s", "crio"}, args[2]) {
				t.Errorf("the runtime is %s", args[2])
			}
		}
	})
	if count < 5 {
		t.Errorf("only %d DaemonSets were found", count)
	}
}

// storyFlags are the flags of the user story's command.
func storyFlags(connection string) []string {
	return []string{"--set", "connectionString=" + connection, "--set", "httpEnabled=true",
		"--set", "sync.chunkSizeInMb=1", "--set", "pvc.storageClassName=local-path", "--set", "pvc.storageRequest=20Gi"}
}

const connection = "ConnectedRegistryName=myconnectedregistry;SyncTokenName=myconnectedregistry;" +
	"SyncTokenPassword=ferry_0123456789abcdefghijklmnopqrstuvwxyzABC;ParentGatewayEndpoint=registry.example;" +
	"ParentEndpointProtocol=https"

func TestTheStorysCommandWorksAsWritten(t *testing.T) {
	fromFlags, err := render(t, "connected-registry", storyFlags(connection)...)
	if err != nil {
		t.Fatal(err)
	}
	fromFile, err := render(t, "connected-registry", "-f", "testdata/connected-registry/story.values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(fromFile, fromFlags); diff != "" {
		t.Error(diff)
	}
	all := parse(t, fromFlags)
	if name := find(t, all, "Service").Metadata.Name; name != "myconnectedregistry" {
		t.Errorf("the service is %s", name)
	}
	if slices.ContainsFunc(all, func(m manifest) bool { return m.Kind == "DaemonSet" }) {
		t.Error("plain HTTP has a DaemonSet")
	}
}

func TestTheConnectionStringSurvivesFlagsAndEditors(t *testing.T) {
	for _, text := range []string{
		connection,
		strings.Replace(connection, "registry.example;", "10.0.0.1:5000;", 1),
		strings.Replace(connection, "SyncTokenPassword=", "SyncTokenPassword==", 1), // a value may begin with =
		strings.Replace(connection, "registry.example;", "[fd00::1]:5000;", 1),
		strings.ToUpper(connection[:21]) + connection[21:] + ";\n",
		"\ufeff\"" + connection + "\"\r\n",
	} {
		want, err := wire.ParseConnectionString(text)
		if err != nil {
			t.Fatal(err)
		}
		rendered, err := render(t, "connected-registry", storyFlags(text)...)
		if err != nil {
			t.Fatal(err)
		}
		all := parse(t, rendered)
		secret, err := base64.StdEncoding.DecodeString(find(t, all, "Secret").Data["connection-string"])
		if err != nil {
			t.Fatal(err)
		}
		got, err := wire.ParseConnectionString(string(secret))
		if err != nil || got != want {
			t.Errorf("%s: got %s, %v", text, got, err)
		}
		// The templates read it like the program does.
		if name := find(t, all, "Service").Metadata.Name; name != want.Name {
			t.Errorf("%s: the service is %s", text, name)
		}
		image := find(t, all, "Deployment").Spec.Template.Spec.Containers[0].Image
		if !strings.HasPrefix(image, want.Endpoint+"/ferry:") {
			t.Errorf("%s: the image is %s", text, image)
		}
	}
}

func TestNetworkPolicyOpensTheParentsPort(t *testing.T) {
	for parent, want := range map[string]string{
		"registry.example": "443", "registry.example:5000": "5000", "registry.example:5000/ferry": "5000",
		"[fd00::1]": "443", "[fd00::1]:8443": "8443",
	} {
		text, err := render(t, "connected-registry", "--set", "networkPolicy.enabled=true",
			"--set", "image.repository=mirror.example/ferry", "--set", "networkPolicy.egressPorts={53}",
			"--set", "connectionString="+strings.Replace(connection, "registry.example", parent, 1))
		if err != nil {
			t.Fatal(err)
		}
		ports := regexp.MustCompile(`\{port: (\d+), protocol: TCP\}`).FindAllStringSubmatch(text, -1)
		if len(ports) != 3 || ports[1][1] != want { // DNS, the parent, and the value
			t.Errorf("%s: ports %v, want %s", parent, ports, want)
		}
	}
}

// Helm would write a Secret of its own again at each upgrade, with a password that has ended.
func TestARegistryKeepsItsOwnPullSecret(t *testing.T) {
	elsewhere := []string{"--set", "trustDistribution.namespace=nodes", "--set", "service.clusterIP=10.96.7.7"}
	joining := strings.Replace(connection, "SyncTokenPassword=", "JoinToken=", 1)
	inSecret := []string{"--set", "connectionStringSecret.name=a", "--set", "service.name=b",
		"--set", "image.repository=registry.example/ferry", "--set", "image.pullSecrets={first}"}
	const release, nodes = "connected-registry/connected-acr-pull-current", "nodes/connected-acr-pull-current"
	for _, test := range []struct {
		name    string
		args    []string
		targets string   // of the setting
		secrets []string // that pods name
		roles   int
	}{
		{"password", storyFlags(connection), release, []string{"connected-acr-pull-current", "connected-acr-pull"}, 1},
		{"nodes elsewhere", append([]string{"--set", "connectionString=" + connection}, elsewhere...),
			release + "," + nodes, []string{"connected-acr-pull-current", "connected-acr-pull"}, 2},
		{"join token", append(storyFlags(joining), "--set", "image.repository=registry.example/ferry"), release,
			[]string{"connected-acr-pull-current"}, 1},
		{"string in a Secret", inSecret, release, []string{"connected-acr-pull-current", "first"}, 1},
		{"another image", append(storyFlags(connection), "--set", "image.repository=a.example/ferry"), "", nil, 0},
		{"off", append(storyFlags(connection), "--set", "image.useSyncToken=false"), "", nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			text, err := render(t, "connected-registry", test.args...)
			if err != nil {
				t.Fatal(err)
			}
			all, roles := parse(t, text), 0
			for _, m := range all {
				if m.Kind == "Secret" && strings.HasSuffix(m.Metadata.Name, "-current") {
					t.Error("the chart makes the Secret")
				}
				for _, r := range m.Rules {
					if !slices.Contains(r.Resources, "secrets") {
						continue
					}
					roles++
					if !slices.Equal(r.ResourceNames, []string{"connected-acr-pull-current"}) ||
						!slices.Equal(r.Verbs, []string{"create", "patch"}) {
						t.Errorf("the right %+v", r)
					}
				}
			}
			pod := find(t, all, "Deployment").Spec.Template.Spec
			targets := ""
			for _, arg := range pod.Containers[0].Args {
				if value, ok := strings.CutPrefix(arg, "--pull-secrets="); ok {
					targets = value
				}
			}
			var secrets []string
			for _, s := range pod.ImagePullSecrets {
				secrets = append(secrets, s.Name)
			}
			if targets != test.targets || roles != test.roles || !slices.Equal(secrets, test.secrets) {
				t.Errorf("it writes %q with %d roles, and pods name %q", targets, roles, secrets)
			}
		})
	}
}

// The authority connects only to a pod that is ready, and until then every handshake fails.
func TestPodsAreReadyBeforeTheirACMECertificate(t *testing.T) {
	text, err := render(t, "registry", "-f", "testdata/registry/acme.values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, "httpGet") || strings.Count(text, "tcpSocket: {port: registry}") != 3 {
		t.Errorf("the probes need a certificate:\n%s", text)
	}
}

func TestAServiceNameIsValidInDNS(t *testing.T) {
	text, err := render(t, "connected-registry",
		storyFlags(strings.Replace(connection, "=myconnectedregistry;", "=Ship_1;", 1))...)
	if err != nil {
		t.Fatal(err)
	}
	if name := find(t, parse(t, text), "Service").Metadata.Name; name != "ship-1" {
		t.Errorf("the service is %s", name)
	}
}

func TestContradictoryValuesAreRefused(t *testing.T) {
	set := func(values ...string) (args []string) {
		for _, v := range values {
			args = append(args, "--set", v)
		}
		return args
	}
	cs := "connectionString=" + connection
	for _, test := range []struct {
		chart string
		args  []string
		want  string
	}{
		{"connected-registry", nil, "connectionString is required"},
		{"connected-registry", set("connectionString=ConnectedRegistryName=ship1"), "has no SyncTokenPassword"},
		{"connected-registry", set(strings.Replace(cs, "registry.example", "<parent>", 1)), "placeholder"},
		{"connected-registry", set(cs, "connectionStringSecret.name=a"), "exclude each other"},
		{"connected-registry", set("connectionStringSecret.name=a", "service.name=b"), "needs image.repository"},
		{"connected-registry", set("connectionStringSecret.name=a", "image.repository=b"), "needs service.name"},
		{"connected-registry", set(strings.Replace(cs, "registry.example", "a.example/b", 1)), "below a path"},
		{"connected-registry", set(cs, "service.name=1a"), "cannot be the name of a service"},
		{"connected-registry", set(cs, "httpEnabled=true", "tls.secret=a"), "httpEnabled excludes tls"},
		{"connected-registry", set(cs, "httpEnabled=true", "cert-manager.enabled=true"), "httpEnabled excludes cert-m"},
		{"connected-registry", set(cs, "tls.crt=YQ=="), "belong together"},
		{"connected-registry", set(cs, "tls.crt=YQ==", "tls.key=YQ=="), "needs tls.cacrt"},
		{"connected-registry", set(cs, "tls.cacrt=YQ=="), "tls.cacrt needs"},
		{"connected-registry", set(cs, "cert-manager.install=true"), "helm install cert-manager"},
		{"connected-registry", set(cs, "cert-manager.enabled=true"), "needs service.clusterIP"},
		{"connected-registry", set(cs, "cert-manager.enabled=true", "tls.secret=a"), "there is one certificate"},
		{"connected-registry", set(cs, "trustDistribution.namespace=a"), "needs service.clusterIP"},
		{"connected-registry", set(cs, "trustDistribution.namespace=a", "tls.secret=b"), "another namespace"},
		{"connected-registry", set(cs, "trustDistribution.createNamespace=true"), "needs trustDistribution.namespace"},
		{"connected-registry", set(cs, "trustDistribution.nodeCredentials.token=a"), "needs password"},
		{"connected-registry", set(cs, "trustDistribution.nodeCredentials.secret=a"), "needs token"},
		{"connected-registry", set(cs, "trustDistribution.enabled=maybe"), "'auto'"},
		{"connected-registry", set(cs, "pvc.existingClaim=a", "pvc.storageClassName=b"), "excludes"},
		{"connected-registry", set(cs, "pvc.size=1Gi"), "'size' not allowed"},
		{"connected-registry", set(cs, "sync.chunkSizeInMb=0"), "want 1"},
		{"connected-registry", set(cs, "settings.listen=1"), "invalid propertyName 'listen'"},
		{"connected-registry", set(cs, "service.clusterIP=ten"), "does not match"},
		{"registry", nil, "image.repository is required"},
		{"registry", set("image.repository=a", "ingress.enabled=true"), "needs ingress.host"},
		{"registry", set("image.repository=a", "acme.enabled=true"), "needs acme.names"},
		{"registry", set("image.repository=a", "acme.enabled=true", "tls.secret=b"), "exclude each other"},
		{"registry", set("image.repository=a", "cert-manager.enabled=true"), "issuerRef.name"},
		{"registry", set("image.repository=a", "replicas=2"), "at '/databaseSecret/name'"},
		{"registry", set("image.repository=a", "replicas=2", "databaseSecret.name=b"), "at '/blobs/location'"},
		{"registry", set("image.repository=a", "replicas=2", "blobs.location=s3://bucket"),
			"at '/databaseSecret/name'"},
		{"registry", set("image.repository=a", "replicas=2", "databaseSecret.name=b", "blobs.location=s3://bucket"),
			"at '/clusterSecret/name'"},
		{"registry", set("image.repository=a", "databaseSecret.name=b", "blobs.location=s3://bucket",
			"clusterSecret.name=c"), "clusterSecret excludes an own CA"},
		{"registry", set("image.repository=a", "clusterSecret.name=b"), "needs databaseSecret.name"},
		{"registry", set("image.repository=a", "blobs.endpoint=https://s3.example"), "needs blobs.location"},
		{"registry", set("image.repository=a", "blobs.location=/files"), "does not match"},
		{"registry", set("image.repository=a", "connectionString=b"), "'connectionString' not allowed"},
	} {
		out, err := render(t, test.chart, test.args...)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %v: %v, want %q", test.chart, test.args, err, test.want)
		}
		if strings.Contains(out, "kind: Deployment") {
			t.Errorf("%s %v: manifests were rendered", test.chart, test.args)
		}
	}
}

func TestInstallWritesValuesThatTheChartTakes(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "connection-string")
	if err := os.WriteFile(file, []byte(connection), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string][]string{
		"least":  nil,
		"http":   {"--http", "--storage-class", "local-path", "--storage-size", "20Gi", "--cluster-ip", "10.43.0.50"},
		"tag":    {"--image", "mirror.example:5000/tools/ferry:1.0"},
		"digest": {"--image", "mirror.example/ferry@sha256:" + strings.Repeat("0", 64)},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(dir, name)
			var stderr bytes.Buffer
			env := &cli.Env{Stdin: strings.NewReader(""), Stdout: io.Discard, Stderr: &stderr,
				LookupEnv: cli.Variables(nil)}
			args := append([]string{"install", "k8s", "--connection-string-file", file, "--output-dir", out}, flags...)
			if code := cli.Run(t.Context(), args, env); code != 0 {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			text, err := render(t, "connected-registry", "-f", filepath.Join(out, "values.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			if name := find(t, parse(t, text), "Service").Metadata.Name; name != "myconnectedregistry" {
				t.Errorf("the service is %s", name)
			}
		})
	}
}

// The README of a chart lists its values.
func TestReadmesNameEveryValue(t *testing.T) {
	for name, dir := range charts {
		readme, err := os.ReadFile(filepath.Join(dir, "README.md"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "values.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var values map[string]any
		if err := yaml.Load(text, &values); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys("", values) {
			if !bytes.Contains(readme, []byte("`"+key+"`")) {
				t.Errorf("%s/README.md does not name `%s`", name, key)
			}
		}
	}
}

// keys returns the names of the values. The values below some names are Kubernetes' own.
func keys(prefix string, values map[string]any) (all []string) {
	own := []string{"resources", "probes", "tolerations", "annotations"}
	for name, v := range values {
		path := strings.TrimPrefix(prefix+"."+name, ".")
		if nested, ok := v.(map[string]any); ok && len(nested) > 0 && !slices.Contains(own, name) {
			all = append(all, keys(path, nested)...)
			continue
		}
		all = append(all, path)
	}
	return all
}
