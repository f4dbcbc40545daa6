package cli

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/schedule"
)

type connectedRegistrySettings struct {
	named
	confirmation
	protocol string
	generate string // the number of the password; "" is none
	join     bool
	expires  *time.Duration // of the join token; nil is a day
}

func (o *connectedRegistrySettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.defineProtocol(set)
	choiceVar(set, &o.generate, "generate-password", "", "",
		"make a new first or second password for the sync token; without it, the connection string has none", "1", "2")
	set.BoolVar(&o.join, "join", false,
		"make a join token instead of a password: the site exchanges it, once, for a password that it makes itself")
	option(set, &o.expires, "expires", "", "PERIOD", "24h",
		"with --join: for how long the join token is valid, such as 30m, 24h or 7d; 1m to 30d", schedule.ParsePeriod)
	o.confirmation.define(set)
}

func (o *connectedRegistrySettings) defineProtocol(set *pflag.FlagSet) {
	choiceVar(set, &o.protocol, "parent-protocol", "", "",
		"the protocol between the site and its parent; https if the parent is known to speak TLS", "http", "https")
}

func (o *connectedRegistrySettings) run(ctx context.Context, env *Env, c *client) error {
	post := api.SettingsPost{ParentProtocol: o.protocol}
	switch {
	case o.join && o.generate != "":
		return usagef("at most one can be provided: --join, or --generate-password")
	case !o.join && o.expires != nil:
		return usagef("--expires is for --join")
	case o.join:
		post.JoinFor = fmt.Sprintf("PT%dS", int64(*cmp.Or(o.expires, new(24*time.Hour))/time.Second))
	}
	if o.generate != "" {
		err := o.ask(env, "Are you sure you want to generate the password%s of the sync token of '%s'? "+
			"An instance that uses it must be given the new one.", o.generate, o.name)
		if err != nil {
			return err
		}
		post.GeneratePassword = int(o.generate[0] - '0')
	}
	settings, err := write[api.InstanceSettings](ctx, c, http.MethodPost, post, connectedRegistries.kind, o.name,
		"settings")
	if err != nil {
		return err
	}
	if o.generate != "" {
		env.warnShownOnce()
	}
	if o.join {
		fmt.Fprintln(env.Stderr, "note: the connection string is shown only this once, and is good for one instance")
	}
	env.noteConnection(settings.value.ConnectionString, o.protocol)
	return env.print(settings.raw)
}

// noteConnection writes to standard error how a connection string differs from what was asked for. The
// protocol is the one that the command named.
func (e *Env) noteConnection(text, protocol string) {
	if protocol == "http" && strings.Contains(text, "ParentEndpointProtocol=https") {
		fmt.Fprintln(e.Stderr, "warning: the parent speaks TLS, so the connection string says https in place of http")
	}
	if strings.Contains(text, "=<parent gateway endpoint>") {
		fmt.Fprintln(e.Stderr, "note: the root does not know the address of the parent at the site; "+
			"write its host:port in the place of <parent gateway endpoint>")
	}
}

// newConnectedRegistryInstallCommand returns the commands of the reference that get-settings has
// replaced.
func newConnectedRegistryInstallCommand(env *Env) *cobra.Command {
	instead := func(name string) string { return "Deprecated: use connected-registry get-settings" + name }
	cmd := group("install", "Deprecated: use connected-registry get-settings",
		verb(env, "info", instead(""),
			"ferry connected-registry install info -r home -n ship1 --parent-protocol https",
			&installSettings{}, "name", "parent-protocol"),
		verb(env, "renew-credentials", instead(" --generate-password 1"),
			"ferry connected-registry install renew-credentials -r home -n ship1 --parent-protocol https --yes",
			&installSettings{renew: true}, "name", "parent-protocol"),
	)
	cmd.Hidden = true
	return cmd
}

// An installSettings is one of the deprecated commands install info and install renew-credentials.
type installSettings struct {
	connectedRegistrySettings
	renew bool
}

func (o *installSettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.defineProtocol(set)
	o.confirmation.define(set)
}

func (o *installSettings) run(ctx context.Context, env *Env, c *client) error {
	instead := ""
	if o.renew {
		o.generate, instead = "1", " --generate-password 1"
	}
	fmt.Fprintf(env.Stderr, "warning: this command is deprecated: use ferry connected-registry get-settings -n %s "+
		"--parent-protocol %s%s\n", o.name, o.protocol, instead)
	return o.connectedRegistrySettings.run(ctx, env, c)
}
