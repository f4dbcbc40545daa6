package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/install"
	"ferry/internal/telemetry"
	"ferry/internal/wire"
)

func newInstallCommand(env *Env) *cobra.Command {
	return describe(group("install", "Write the files that run a connected registry somewhere",
		newInstallPlaceCommand(env, "compose", "Write a project of Docker Compose", `
			ferry install compose --connection-string-file ship1.connection --tls-names ship1.example,10.0.0.5
			ferry install compose --connection-string-file ship1.connection --http --port 80 --output-dir ship1`),
		newInstallPlaceCommand(env, "iotedge", "Write a deployment manifest for Azure IoT Edge", `
			ferry install iotedge --connection-string-file ship1.connection --image registry.example/tools/ferry:1.0 \
			--external-url https://edge1.example:8000
			ferry install iotedge --connection-string-file cell7.connection --nested \
			--image '$upstream:8000/tools/ferry:1.0' --external-url https://cell7.example:8000`),
		newInstallPlaceCommand(env, "systemd", "Write a service of systemd, for hosts without the Debian package", `
			ferry install systemd --connection-string-file ship1.connection
			ferry install systemd --connection-string-file ship1.connection --port 443 --tls-names ship1.example`),
		newInstallPlaceCommand(env, "k8s", "Write the values of the chart connected-registry", `
			ferry install k8s --connection-string-file ship1.connection --storage-class local-path --storage-size 20Gi
			ferry install k8s --connection-string-file ship1.connection --http --cluster-ip 10.43.0.50`),
	), `Write the files that run a connected registry: with Docker Compose, on an IoT
Edge device, on a host with systemd, or in Kubernetes. Nothing is started. The
commands that come next are printed.

The connection string is checked first. Only you can read a file that has it.
Files that exist with another content are kept, unless --force is given.`)
}

func newInstallPlaceCommand(env *Env, place, short, examples string) *cobra.Command {
	required := []string{"connection-string-file"}
	if place == "iotedge" {
		required = append(required, "image", "external-url")
	}
	return verb(env, place, short, examples, &installOptions{place: place}, required...)
}

type installOptions struct {
	noClient
	place          string
	connectionFile string
	caFile         string // of the parent's authority
	dir            string
	force          bool
	plan           install.Options
}

func (o *installOptions) define(set *pflag.FlagSet) {
	textVar(set, &o.connectionFile, "connection-string-file", "", "FILE",
		"file with the connection string, or - for standard input")
	o.dir = "."
	textVar(set, &o.dir, "output-dir", "", "DIR", "directory for the files; it is made if there is none")
	set.BoolVar(&o.force, "force", false, "replace files that exist with another content")
	textOutputVar(set)
	p := &o.plan
	switch o.place {
	case "compose":
		p.Image = ownImage()
		o.defineServing(set)
		textVar(set, &p.Image, "image", "", "IMAGE", "the image of Ferry, as this host's engine knows it")
		textVar(set, &p.DataDir, "data-dir", "", "DIR", "directory of the host for the data (default a volume)")
	case "systemd":
		o.defineServing(set)
		textVar(set, &p.DataDir, "data-dir", "", "DIR", "directory for the data (default /var/lib/ferry)")
	case "iotedge":
		textVar(set, &p.Image, "image", "", "IMAGE", "the image of Ferry, in a registry that the device reaches")
		textVar(set, &p.DataDir, "data-dir", "", "DIR", "directory of the device for the data (default a volume)")
		set.IntVar(&p.Port, "port", 8000, "port of the API proxy, at which clients reach the registry")
		textVar(set, &p.ExternalURL, "external-url", "", "URL", "address of the API proxy for clients")
		set.BoolVar(&p.Nested, "nested", false, "the device has a parent device, and reaches nothing else")
	case "k8s":
		textVar(set, &p.Image, "image", "", "IMAGE", "the image of Ferry (default the repository ferry of the parent, "+
			"which nodes pull with the sync token)")
		textVar(set, &p.Chart, "chart", "", "CHART",
			"the chart, a directory or oci://..., for the printed commands (default charts/connected-registry)")
		textVar(set, &p.Namespace, "namespace", "", "NAMESPACE", "the namespace (default connected-registry)")
		textVar(set, &p.StorageClass, "storage-class", "", "NAME", "storage class of the data (default the cluster's)")
		textVar(set, &p.StorageSize, "storage-size", "", "SIZE", "size of the data's volume, such as 20Gi")
		textVar(set, &p.ClusterIP, "cluster-ip", "", "ADDRESS", "address of the service, which must be free")
		set.BoolVar(&p.HTTP, "http", false, "serve without TLS")
		o.defineParentCA(set)
	}
}

// defineParentCA defines the flag for the file with the parent's authority.
func (o *installOptions) defineParentCA(set *pflag.FlagSet) {
	textVar(set, &o.caFile, "parent-ca", "", "FILE",
		"certificates of the parent's authority, in PEM, if it is not one that everybody knows")
}

// defineServing defines the flags for an instance that clients reach at a port of the host.
func (o *installOptions) defineServing(set *pflag.FlagSet) {
	p := &o.plan
	o.defineParentCA(set)
	set.IntVar(&p.Port, "port", 5000, "port of the host for clients")
	set.BoolVar(&p.HTTP, "http", false, "serve without TLS")
	listVar(set, "tls-names", "", "NAME",
		"host names and addresses of the host, for the certificate; the first is in the printed commands",
		func(values []string) error {
			for _, v := range values {
				p.Names = append(p.Names, strings.Split(v, ",")...)
			}
			return noneEmpty(p.Names)
		})
	textVar(set, &p.ExternalURL, "external-url", "", "URL", "address for clients, if a proxy is in front")
}

// ownImage returns the name that the image of this program has after `make image` and a copy to
// the engine of this host.
func ownImage() string {
	version := strings.ReplaceAll(strings.TrimPrefix(telemetry.Version(), "v"), "+", "-")
	return "localhost/ferry:" + version
}

// An installed is the result of install.
type installed struct {
	Place             string          `json:"place"`
	ConnectedRegistry string          `json:"connectedRegistry"`
	Files             []installedFile `json:"files"`
	Next              []string        `json:"next"`
}

type installedFile struct {
	Path   string `json:"path"`
	Secret bool   `json:"secret"`
}

func (o *installOptions) run(_ context.Context, env *Env, _ *client) error {
	if err := o.read(env); err != nil {
		return err
	}
	o.plan.Dir = filepath.ToSlash(o.dir)
	p, err := install.For(o.place, o.plan)
	if err != nil {
		return usageError{err}
	}
	force := install.Keep
	if o.force {
		force = install.Replace
	}
	foreign, err := p.Write(o.dir, force)
	if exists, ok := errors.AsType[install.ExistsError](err); ok {
		return withHint(exists, "nothing was written; --force replaces it, and --output-dir names another directory")
	}
	if err != nil {
		return err
	}
	done := installed{Place: p.Place, ConnectedRegistry: o.plan.Connection.Name}
	for _, f := range p.Files {
		done.Files = append(done.Files, installedFile{filepath.Join(o.dir, f.Name), f.Secret})
	}
	for _, f := range foreign {
		done.Next = append(done.Next, "# The program in the container has a user of its own.",
			fmt.Sprintf("sudo chown %d:%d %s", f.User, f.User, quoted(filepath.Join(o.dir, f.Name))))
	}
	done.Next = append(done.Next, p.Next...)
	if !env.asText() {
		return env.print(done)
	}
	var text strings.Builder
	for _, f := range done.Files {
		secret := ""
		if f.Secret {
			secret = ", which has a password, and which only its owner can read"
		}
		fmt.Fprintf(&text, "Wrote %s%s.\n", f.Path, secret)
	}
	fmt.Fprintf(&text, "Next:\n  %s", strings.Join(done.Next, "\n  "))
	env.say(text.String())
	return nil
}

// read reads the connection string.
func (o *installOptions) read(env *Env) error {
	const most = 1 << 20
	var text []byte
	var err error
	if o.connectionFile == "-" {
		text, err = io.ReadAll(io.LimitReader(env.Stdin, most))
	} else {
		text, err = readFile(o.connectionFile, most)
	}
	if err != nil {
		return fmt.Errorf("read connection string: %w", err)
	}
	o.plan.Connection, err = wire.ParseConnectionString(string(text))
	if err != nil && !errors.As(err, new(wire.PlaceholderError)) {
		err = withHint(err, "get one with: ferry connected-registry get-settings -n NAME --parent-protocol https "+
			"--generate-password 1 --query ACR_REGISTRY_CONNECTION_STRING -o tsv --to-file FILE")
	}
	if o.caFile != "" && err == nil {
		if text, err = readFile(o.caFile, most); err != nil {
			return fmt.Errorf("read the parent's authority: %w", err)
		}
		o.plan.ParentCA = string(text)
	}
	if o.place == "systemd" && err == nil {
		o.plan.Program, err = os.Executable()
	}
	return err
}
