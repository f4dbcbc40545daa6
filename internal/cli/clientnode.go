//go:build !windows

package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/kube"
	"ferry/internal/noderuntime"
	"ferry/internal/telemetry"
	"ferry/internal/terminal"
)

// nodeCommands returns the commands that change the files of this machine's container runtimes.
func nodeCommands(env *Env) []*cobra.Command {
	return []*cobra.Command{newClientConfigureCommand(env), newClientRestoreCommand(env)}
}

func newClientConfigureCommand(env *Env) *cobra.Command {
	o := &clientConfigure{}
	cmd := verb(env, "configure RUNTIME", "Make a node's container runtime trust a registry, and pull from it", `
		ferry client configure auto --endpoint https://10.43.7.7 --ca ca.crt
		ferry client configure containerd --endpoint https://edge.example:5000 --ca ca.crt --mirror-of docker.io \
		--token node1 --password-file node1.password
		ferry client configure containerd --endpoint https://edge.example:5000 --edit-config --dry-run
		ferry client configure k3s --endpoint http://edge.example:5000 --mirror-of docker.io quay.io
		ferry client configure rke2 --endpoint https://edge.example:5000 --ca ca.crt --mirror-of '*'
		ferry client configure microk8s --endpoint https://edge.example:5000 --ca ca.crt
		ferry client configure crio --endpoint https://edge.example:5000 --ca ca.crt --mirror-of docker.io=hub
		ferry client configure podman --endpoint https://edge.example:5000 --ca ca.crt
		ferry client configure docker --endpoint http://edge.example:5000
		ferry client configure openshift --endpoint https://edge.example:5000 --ca ca.crt > objects.yaml
		ferry client configure talos --endpoint https://edge.example:5000 --ca ca.crt > patch.yaml
		ferry client configure auto --endpoint https://10.43.7.7 --ca /etc/ferry/ca/ca.crt --host-root /host \
		--watch --while-daemonset edge/ship1-nodes`, o, "endpoint")
	cmd.ValidArgs = append([]string{"auto"}, strings.Split(runtimeNames(), ", ")...)
	cmd.Long = `Make a node's container runtime trust a registry, pull from it instead of other
registries, and log in to it. RUNTIME is one of these:

  auto, ` + runtimeNames() + `

auto configures every runtime that was found and that a kubelet can use, and,
without --host-root, Docker and Podman, too.

Only files that the runtime reads are changed: the authority first, then the
file that names it, each in one step. What they were is kept, and ferry client
restore brings it back, byte for byte. Running the command again repairs the
files. A node has one endpoint: with another one, or with other settings, the
earlier ones are replaced. Comments and other keys of the files are kept.

Almost everything is effective at the next pull. If a runtime must be reloaded
or restarted, the command says how, and does not do it. For OpenShift and Talos
nothing is written: it prints the objects or the patch to apply.

With a token, the password stands in hosts.toml, which then only root can read.
CRI-O, Podman and Docker have no such place: use a pull secret or their login.`
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return withHint(usagef("configure needs the name of a runtime: %s, or auto", runtimeNames()),
				"ferry client configure auto --endpoint URL")
		}
		o.runtime = args[0]
		return checkRuntime(args[0], true)
	}
	return cmd
}

func newClientRestoreCommand(env *Env) *cobra.Command {
	o := &clientRestore{}
	cmd := verb(env, "restore [RUNTIME]", "Bring back the files that ferry client configure changed", `
		ferry client restore
		ferry client restore containerd --dry-run`, o)
	cmd.Long = `Bring back the files that ferry client configure changed: byte for byte, with
their modes, or removed if they did not exist. If somebody has edited a file
since, that edit is kept, and only Ferry's lines are removed.

Without RUNTIME, the files of every runtime are restored. A restore that was
interrupted is completed by the next one.`
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 1 {
			return withHint(usagef("restore takes the name of one runtime, or none"), "see ferry client restore --help")
		}
		if len(args) == 0 {
			return nil
		}
		o.runtime = args[0]
		return checkRuntime(args[0], false)
	}
	return cmd
}

// runtimeNames returns the names of all runtimes, for messages.
func runtimeNames() string {
	var names []string
	for _, k := range noderuntime.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func checkRuntime(name string, auto bool) error {
	if auto && name == "auto" || slices.Contains(noderuntime.Kinds(), noderuntime.Kind(name)) {
		return nil
	}
	return withHint(usagef("%q is no runtime that Ferry knows", clip(name)), "want one of %s", runtimeNames())
}

// A nodeTarget is the machine whose files are changed.
type nodeTarget struct {
	hostRoot, stateDir string
	dryRun             bool
}

func (o *nodeTarget) define(set *pflag.FlagSet) {
	textVar(set, &o.hostRoot, "host-root", "", "DIR", "where the machine's file system is mounted (default /)")
	textVar(set, &o.stateDir, "state-dir", "", "DIR",
		"the directory on the machine that keeps the files as they were (default "+noderuntime.DefaultState+")")
	set.BoolVar(&o.dryRun, "dry-run", false, "show the changes, and make none")
	textOutputVar(set)
}

func (o *nodeTarget) node() *noderuntime.Node {
	return &noderuntime.Node{Root: o.hostRoot, State: o.stateDir}
}

// A clientConfigure is the options of ferry client configure.
type clientConfigure struct {
	noClient
	nodeTarget
	passwordSource
	runtime        string
	settings       noderuntime.Settings
	mirrors        []string // REGISTRY or REGISTRY=PREFIX
	ca             string
	version        string
	configFile     string
	watch          bool
	interval       time.Duration
	whileDaemonSet string
}

func (o *clientConfigure) define(set *pflag.FlagSet) {
	o.nodeTarget.define(set)
	o.passwordSource.define(set)
	textVar(set, &o.settings.Endpoint, "endpoint", "", "URL",
		"the registry's address, such as https://edge.example:5000")
	namesVar(set, &o.settings.Hosts, "host", "", "NAME[:PORT]...",
		"further names of the registry in the names of images; nodes connect to the endpoint for them")
	textVar(set, &o.ca, "ca", "", "FILE", "certificates of the authorities to trust, in PEM (default the system's)")
	namesVar(set, &o.mirrors, "mirror-of", "", "REGISTRY[=PREFIX]...",
		"other registries to pull from this one, such as docker.io, or '*' for all; PREFIX is the repositories that "+
			"stand for them, which only CRI-O, Podman and OpenShift must be told")
	set.BoolVar(&o.settings.NoUpstream, "no-upstream", false,
		"never ask a mirrored registry itself, if the endpoint does not have an image")
	set.BoolVar(&o.settings.EditConfig, "edit-config", false,
		"set config_path in containerd's config.toml if it is missing; containerd must then be restarted once")
	textVar(set, &o.version, "runtime-version", "", "VERSION",
		"the runtime's version, such as containerd://2.4.2 (default ask the runtime)")
	textVar(set, &o.configFile, "runtime-config", "", "FILE",
		"the runtime's configuration file, if it is not at the usual place")
	set.BoolVar(&o.watch, "watch", false,
		"continue: follow changes of the files of --ca and --password-file, repair the node's files, and restore them "+
			"at the end")
	o.interval = 5 * time.Second
	periodVar(set, &o.interval, "watch-interval", "5s", "how often --watch checks, such as 5s or 1m")
	textVar(set, &o.whileDaemonSet, "while-daemonset", "", "NAMESPACE/NAME",
		"with --watch in a cluster: restore nothing at the end while this DaemonSet exists")
}

func (o *clientConfigure) run(ctx context.Context, env *Env, _ *client) error {
	n := o.node()
	n.Version, n.ConfigFile = o.version, o.configFile
	o.splitMirrors()
	if o.configFile != "" && o.runtime == "auto" {
		return usagef("--runtime-config needs the name of one runtime")
	}
	if o.whileDaemonSet != "" && !o.watch {
		return usagef("--while-daemonset needs --watch")
	}
	if o.watch && o.dryRun {
		return usagef("--watch and --dry-run exclude each other")
	}
	if o.token == "" && o.given() {
		return usagef("a password needs --token")
	}
	password := ""
	if o.token != "" && o.file == "" {
		var err error
		if _, password, err = o.passwordSource.read(env); err != nil {
			return err
		}
	}
	settings := func() (*noderuntime.Settings, error) { return o.read(env, password) }
	if o.watch {
		return o.keep(ctx, env, n, settings)
	}
	s, err := settings()
	if err != nil {
		return err
	}
	if err := s.Check(); err != nil {
		return usageError{err}
	}
	runtimes, err := n.Choose(ctx, o.runtime, s)
	if err != nil {
		return withHint(err, "name the runtime: %s", runtimeNames())
	}
	configure := n.Configure
	if o.dryRun {
		configure = n.Preview
	}
	results, err := configure(ctx, runtimes, s)
	switch {
	case len(results) == 0:
	case env.asText():
		showNodeResults(env, results, o.dryRun)
	default:
		err = errors.Join(err, env.print(results))
	}
	return explainNode(err)
}

// splitMirrors splits each --mirror-of into the registry and the prefix.
func (o *clientConfigure) splitMirrors() {
	o.settings.Mirrors, o.settings.Prefixes = nil, map[string]string{}
	for _, m := range o.mirrors {
		registry, prefix, ok := strings.Cut(m, "=")
		o.settings.Mirrors = append(o.settings.Mirrors, registry)
		if ok {
			o.settings.Prefixes[registry] = prefix
		}
	}
}

// maxAuthorities bounds the file of --ca.
const maxAuthorities = 4 << 20

// read returns the settings, with the files as they are now.
func (o *clientConfigure) read(env *Env, password string) (*noderuntime.Settings, error) {
	s := o.settings
	if o.ca != "" {
		text, err := readFile(o.ca, maxAuthorities)
		if err != nil {
			return nil, fmt.Errorf("read the authority: %w", err)
		}
		if len(text) == 0 {
			return nil, fmt.Errorf("read the authority: %s is empty", o.ca)
		}
		s.CA = text
	}
	if o.token != "" {
		s.Username, s.Password = o.token, password
		if o.file != "" {
			var err error
			if s.Username, s.Password, err = o.passwordSource.read(env); err != nil {
				return nil, err
			}
		}
	}
	return &s, nil
}

// keep keeps the node configured until ctx ends.
func (o *clientConfigure) keep(ctx context.Context, env *Env, n *noderuntime.Node,
	settings func() (*noderuntime.Settings, error)) error {
	if o.interval < time.Second {
		return usagef("--watch-interval must be 1s or more")
	}
	log := telemetry.NewLogger(env.Stderr, slog.LevelInfo, "text")
	w := &noderuntime.Watch{Node: n, Runtime: o.runtime, Settings: settings, Interval: o.interval, Log: log,
		Report: func(results []noderuntime.Result) {
			for _, r := range results {
				for _, c := range r.Changes {
					log.Info("changed the node", "runtime", r.Runtime.Runtime, "path", c.Path, "action", c.Action)
				}
				if r.Needed != "" {
					log.Warn("the runtime must be told", "runtime", r.Runtime.Runtime, "step", r.Needed)
				}
				for _, text := range slices.Concat(r.Problems, r.Notes) {
					log.Warn(text, "runtime", r.Runtime.Runtime)
				}
			}
		}}
	if o.whileDaemonSet != "" {
		namespace, name, err := kube.ParseName(o.whileDaemonSet)
		if err != nil {
			return usageError{fmt.Errorf("--while-daemonset: %w", err)}
		}
		c, err := kube.InCluster(env.Getenv)
		if err != nil {
			return err
		}
		w.Owner = kube.NewPresence(c, kube.DaemonSet(namespace, name))
	}
	return w.Run(ctx)
}

// showNodeResults shows results for people.
func showNodeResults(env *Env, results []noderuntime.Result, dryRun bool) {
	for i, r := range results {
		if i > 0 {
			env.say("")
		}
		if r.Objects != "" {
			env.say(strings.TrimSuffix(r.Objects, "\n"))
			for _, text := range slices.Concat([]string{r.Needed}, r.Notes) {
				fmt.Fprintln(env.Stderr, terminal.Printable(string(r.Runtime.Runtime)+": "+text))
			}
			continue
		}
		title := string(r.Runtime.Runtime)
		if r.Version != "" {
			title += " " + r.Version
		}
		env.say(title + ": " + r.Found)
		for _, text := range r.Problems {
			env.say(paragraph("problem: " + text))
		}
		showNodeChanges(env, r.Changes, dryRun)
		if len(r.Changes) == 0 {
			env.say("Nothing is to be changed.")
		}
		for _, text := range r.Notes {
			env.say(paragraph("note: " + text))
		}
		switch {
		case r.Needed != "":
			env.say(paragraph("Needed: " + r.Needed))
		default:
			env.say("Effective at the next pull, without a restart.")
		}
		if !dryRun {
			env.say(paragraph("Undo: " + r.Undo))
		}
	}
}

// paragraph breaks a text into lines of at most 80 characters.
func paragraph(text string) string {
	var b strings.Builder
	column := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case column == 0:
		case column+1+len(word) > 80:
			b.WriteString("\n  ")
			column = 1
		default:
			b.WriteByte(' ')
		}
		b.WriteString(word)
		column += 1 + len(word)
	}
	return b.String()
}

func showNodeChanges(env *Env, changes []noderuntime.Change, dryRun bool) {
	for _, c := range changes {
		line := string(c.Action) + " " + c.Path
		if dryRun {
			line = "would be " + line
		}
		switch {
		case c.Action == noderuntime.Kept:
			line += ": it was edited where Ferry's lines are; remove them by hand"
		case c.Edited:
			line += ": it was edited since; the edit is kept"
		}
		env.say(line)
		if c.Diff != "" {
			env.say(strings.TrimSuffix(c.Diff, "\n"))
		}
	}
}

// explainNode adds advice to an error of the file system.
func explainNode(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return withHint(err, "run it as root")
	}
	return err
}

// A clientRestore is the options of ferry client restore.
type clientRestore struct {
	noClient
	nodeTarget
	runtime string // "" is all
}

func (o *clientRestore) run(ctx context.Context, env *Env, _ *client) error {
	n := o.node()
	var kinds []noderuntime.Kind
	if o.runtime != "" {
		kinds = append(kinds, noderuntime.Kind(o.runtime))
	}
	var changes []noderuntime.Change
	var err error
	if o.dryRun {
		changes, err = n.Changed(kinds...)
	} else {
		changes, err = n.Restore(ctx, kinds...)
	}
	if err != nil {
		return explainNode(err)
	}
	if !env.asText() {
		return env.print(slices.Concat([]noderuntime.Change{}, changes))
	}
	showNodeChanges(env, changes, o.dryRun)
	if len(changes) == 0 {
		env.say("Nothing is to be restored.")
	}
	var needed []string
	for _, c := range changes {
		if c.Needed != "" && !slices.Contains(needed, c.Needed) {
			needed = append(needed, c.Needed)
			env.say("Needed: " + c.Needed)
		}
	}
	return nil
}
