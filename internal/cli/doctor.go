package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/doctor"
	"ferry/internal/noderuntime"
	"ferry/internal/telemetry"
	"ferry/internal/terminal"
	"ferry/internal/wire"
)

func newDoctorCommand(env *Env) *cobra.Command {
	cmd := verb(env, "doctor", "Find out why a registry cannot be used from here", `
		ferry doctor
		ferry doctor --data-dir /var/lib/ferry
		ferry doctor --connection-string-file /etc/ferry/connection-string
		ferry doctor -r home -o json
		ferry doctor --node
		ferry doctor --endpoint https://registry.ship.example --ca /etc/ferry/ca.crt --token line1 --password-stdin`,
		&doctorOptions{})
	cmd.Long = `Check name, route, TLS, clock, login, versions and pull of a registry, as seen
from this machine; the disk, link, sync and windows of an instance on it; and
its container runtimes.
Each check is one line: ok, warn, fail, or skip if it could not be made. If
something is wrong, the line below says what to do.

Flags say what to check. Without any, it is everything that is found here: the
data directory and connection string that ferry serve would use, and the
container runtimes that ferry client configure has configured; or else the
registries that ferry login has saved.

Nothing is changed: one small file is written to the data directory, and then
removed.

The exit code is 1 if a check failed.`
	return cmd
}

type doctorOptions struct {
	target
	dataDir, connectionFile, endpoint string
	connection                        string // the connection string itself, as ferry serve would find it
	caFile, image                     string
	passwordSource                    // of the endpoint

	node               bool
	hostRoot, stateDir string
}

func (o *doctorOptions) define(set *pflag.FlagSet) {
	o.target.define(set)
	textOutputVar(set)
	textVar(set, &o.dataDir, "data-dir", "", "DIR", "check this data directory, and the instance that uses it")
	textVar(set, &o.connectionFile, "connection-string-file", "", "FILE",
		"check the parent that the connection string in this file names")
	textVar(set, &o.endpoint, "endpoint", "", "URL", "check the registry at this address, without a saved login")
	o.passwordSource.define(set)
	set.BoolVar(&o.node, "node", false,
		"check this machine's container runtimes, and the registry that ferry client configure gave them")
	textVar(set, &o.hostRoot, "host-root", "", "DIR", "where the node's file system is mounted (default /)")
	textVar(set, &o.stateDir, "state-dir", "", "DIR",
		"as of ferry client configure (default "+noderuntime.DefaultState+")")
	textVar(set, &o.caFile, "ca", "", "FILE", "PEM file with authorities to trust in addition to the system's")
	textVar(set, &o.image, "image", "", "REPOSITORY:TAG", "pull this image (default any)")
}

func (o *doctorOptions) client(*Env) (*client, error) { return nil, nil }

func (o *doctorOptions) run(ctx context.Context, env *Env, _ *client) error {
	subjects, err := o.subjects(ctx, env)
	if err != nil {
		return err
	}
	reports := doctor.Run(ctx, subjects...)
	switch {
	case env.asText():
		env.say(reportsText(reports))
	case env.asTable():
		err = writeTable(env.Stdout, rowsOf(reports), doctorTable)
	default:
		err = env.print(rowsOf(reports))
	}
	if err != nil {
		return err
	}
	if failed := doctor.Count(reports, doctor.Fail); failed > 0 {
		return fmt.Errorf("%s failed", counted(failed, "check"))
	}
	return nil
}

// subjects returns what to check: what the flags name or else what is found here.
func (o *doctorOptions) subjects(ctx context.Context, env *Env) (all []doctor.Subject, err error) {
	roots, err := o.roots()
	if err != nil {
		return nil, err
	}
	named := o.node || o.dataDir != "" || o.connectionFile != "" || o.endpoint != "" || o.registry != ""
	if !named {
		o.look(env)
	}
	registries := []string{}
	if name := cmp.Or(o.registry, env.Getenv("FERRY_REGISTRY")); name != "" && (o.registry != "" || !named) {
		registries = append(registries, name)
	}
	saved, err := env.loadLogins()
	if err != nil {
		return nil, err
	}
	if !named && !o.node && o.dataDir == "" && o.connection == "" && len(registries) == 0 {
		registries = slices.Sorted(maps.Keys(saved))
	}
	for _, name := range registries {
		e, err := registryToCheck(env, saved, name)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if o.endpoint != "" {
		e, err := o.endpointToCheck(env)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	if o.node {
		more, err := o.nodeToCheck(ctx, roots)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	parent, err := o.parentToCheck()
	if err != nil {
		return nil, err
	}
	if o.dataDir != "" {
		i := o.instanceToCheck(env)
		all = append(all, i)
		if status, err := i.Status(ctx); err == nil && status.Parent != nil && parent == nil {
			u, err := url.Parse(status.Parent.URL)
			if err == nil {
				parent = &doctor.Endpoint{Role: "parent", URL: u, Login: doctor.Login{
					Absent: "only the running instance knows the password; its link says whether that is accepted",
				}}
			}
		}
	}
	if parent != nil {
		all = append(all, parent)
	}
	if len(all) == 0 {
		return nil, withHint(usagef("there is nothing to check here"), "give --data-dir, --connection-string-file, "+
			"--endpoint URL, or -r with a registry that ferry login has saved")
	}
	for _, s := range all {
		if e, ok := s.(*doctor.Endpoint); ok {
			e.Version, e.Image = telemetry.Version(), o.image
			if e.Roots == nil {
				e.Roots = roots
			}
		}
	}
	return all, nil
}

// look finds the data directory and the connection string that `ferry serve` would use here, and
// whether this is a node that was configured.
func (o *doctorOptions) look(env *Env) {
	_, err := os.Stat(filepath.Join(o.hostRoot, cmp.Or(o.stateDir, noderuntime.DefaultState), "state.json"))
	o.node = err == nil
	cfg, err := config.Load(env.Getenv("FERRY_CONFIG"), env.LookupEnv, nil)
	if err != nil {
		return // ferry serve reports this mistake
	}
	if o.connection, err = cfg.Connection(); err != nil {
		return
	}
	for _, dir := range []string{cfg.DataDir, "/var/lib/ferry"} {
		if _, err := os.Stat(config.LocalSocket(dir)); err == nil || env.Getenv("FERRY_DATA_DIR") == dir {
			o.dataDir = dir
			return
		}
	}
}

// roots returns the system's authorities and those of --ca; nil if the latter is not given.
func (o *doctorOptions) roots() (*x509.CertPool, error) {
	if o.caFile == "" {
		return nil, nil
	}
	text, err := readFile(o.caFile, maxLogins)
	if err != nil {
		return nil, withHint(fmt.Errorf("read authorities: %w", err), "--ca wants a PEM file with certificates")
	}
	return trusting(o.caFile, text)
}

// trusting returns the system's authorities and those of a PEM text.
func trusting(name string, text []byte) (*x509.CertPool, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, withHint(fmt.Errorf("%s has no certificate", name), "want a PEM file with certificates")
	}
	return pool, nil
}

// nodeToCheck returns the runtimes of the node and, unless --endpoint is given, the registry that
// they are configured for, with its authority and login.
func (o *doctorOptions) nodeToCheck(ctx context.Context, roots *x509.CertPool) ([]doctor.Subject, error) {
	n := doctor.NewNode(ctx, &noderuntime.Node{Root: o.hostRoot, State: o.stateDir})
	configured := n.Endpoint()
	if o.endpoint != "" || configured == nil {
		return []doctor.Subject{n}, nil
	}
	u, err := url.Parse(configured.URL)
	if err != nil {
		return nil, err
	}
	e := &doctor.Endpoint{Role: "endpoint", URL: u, Roots: roots, Login: doctor.Login{
		Kind: "token", Name: configured.Username, Password: configured.Password,
		Remedy: "run ferry client configure again, with a new password",
		Absent: "the node's files have no login; pods use pull secrets",
	}}
	if len(configured.CA) > 0 && roots == nil {
		e.Roots, err = trusting("the authority of the node's files", configured.CA)
	}
	return []doctor.Subject{n, e}, err
}

// registryToCheck returns the endpoint of a saved registry, or of an address.
func registryToCheck(env *Env, saved logins, name string) (*doctor.Endpoint, error) {
	l, err := saved.find(name)
	if err != nil {
		return nil, err
	}
	if user := env.Getenv("FERRY_USERNAME"); user != "" {
		l.User, l.Password = user, env.Getenv("FERRY_PASSWORD")
	}
	u, err := parseAddress(l.URL)
	if err != nil {
		return nil, err
	}
	return &doctor.Endpoint{Role: "registry", URL: u, Login: doctor.Login{
		Kind: "user", Name: l.User, Password: l.Password, Operator: true,
		Remedy: fmt.Sprintf("log in again: ferry login NAME --url %s -u USER --password-stdin", l.URL),
	}}, nil
}

// endpointToCheck returns the endpoint of --endpoint.
func (o *doctorOptions) endpointToCheck(env *Env) (*doctor.Endpoint, error) {
	u, err := parseAddress(o.endpoint)
	if err != nil {
		return nil, err
	}
	e := &doctor.Endpoint{Role: "endpoint", URL: u, Login: doctor.Login{
		Kind: "token", Name: o.token, Remedy: "make a new password: ferry token credential generate -n " + o.token,
	}}
	if o.token != "" {
		e.Login.Name, e.Login.Password, err = o.passwordSource.read(env)
	}
	return e, err
}

// parentToCheck returns the endpoint of the connection string; nil if there is none.
func (o *doctorOptions) parentToCheck() (*doctor.Endpoint, error) {
	if o.connectionFile != "" {
		text, err := readFile(o.connectionFile, maxLogins)
		if err != nil {
			return nil, fmt.Errorf("read connection string: %w", err)
		}
		o.connection = string(text)
	}
	if o.connection == "" {
		return nil, nil
	}
	c, err := wire.ParseConnectionString(o.connection)
	if err != nil {
		return nil, withHint(err, "make it again at the root, with ferry connected-registry get-settings")
	}
	u, err := url.Parse(c.URL())
	if err != nil {
		return nil, err
	}
	return &doctor.Endpoint{Role: "parent", URL: u, Login: doctor.Login{
		Kind: "sync token", Name: c.Token, Password: c.Password,
		Remedy: "make a new connection string at the root: ferry connected-registry get-settings -n " + c.Name +
			" --generate-password 1 ...",
	}}, nil
}

// instanceToCheck returns the instance of the data directory.
func (o *doctorOptions) instanceToCheck(env *Env) *doctor.Instance {
	c := newLocalClient(o.dataDir, env.Stderr)
	return &doctor.Instance{
		DataDir: o.dataDir, Version: telemetry.Version(),
		Status: func(ctx context.Context) (api.InstanceStatus, error) {
			s, err := ask[api.InstanceStatus](ctx, c, call{method: http.MethodGet, path: api.Root + "/status"})
			if errors.As(err, new(notRunningError)) {
				err = doctor.ErrNotRunning
			}
			return s.value, err
		},
	}
}

// A doctorRow is a result with its subject.
type doctorRow struct {
	Subject string `json:"subject"`
	doctor.Result
}

var doctorTable = []column[doctorRow]{
	{title: "SUBJECT", text: func(r doctorRow) string { return r.Subject }, rank: 2},
	{title: "CHECK", text: func(r doctorRow) string { return r.Check }},
	{title: "STATUS", text: func(r doctorRow) string { return string(r.Status) }},
	{title: "FINDING", text: func(r doctorRow) string { return r.Text }, cut: true},
	{title: "REMEDY", text: func(r doctorRow) string { return r.Remedy }, rank: 1, cut: true},
}

// rowsOf returns all results in one list.
func rowsOf(reports []doctor.Report) []doctorRow {
	rows := []doctorRow{}
	for _, r := range reports {
		for _, c := range r.Checks {
			rows = append(rows, doctorRow{r.Subject, c})
		}
	}
	return rows
}

// The lines of a report: their length, and where the texts begin.
const (
	doctorColumns = 80
	doctorIndent  = 19
)

// reportsText shows reports, in lines of at most 80 columns unless a word is longer.
func reportsText(reports []doctor.Report) string {
	var all []string
	for _, r := range reports {
		all = append(all, terminal.Printable(r.Subject))
		for _, c := range r.Checks {
			all = append(all, wrapped(fmt.Sprintf("  %-4s  %-10s ", c.Status, c.Check), c.Text)...)
			if c.Remedy != "" {
				all = append(all, wrapped("", "-> "+c.Remedy)...)
			}
		}
	}
	return strings.Join(all, "\n")
}

// wrapped returns a text in lines, beside a word or two in its margin.
func wrapped(margin, text string) (lines []string) {
	line := fmt.Sprintf("%-*s", doctorIndent, margin)
	empty := true
	for word := range strings.FieldsSeq(terminal.Printable(text)) {
		if !empty && len([]rune(line))+1+len([]rune(word)) > doctorColumns {
			lines = append(lines, line)
			line, empty = strings.Repeat(" ", doctorIndent), true
		}
		if !empty {
			line += " "
		}
		line, empty = line+word, false
	}
	return append(lines, line)
}
