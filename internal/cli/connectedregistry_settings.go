package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

type connectedRegistrySettings struct {
	named
	confirmation
	protocol string
	generate string // the number of the password; "" is none
}

func (o *connectedRegistrySettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceVar(set, &o.protocol, "parent-protocol", "", "",
		"the protocol between the site and its parent", "http", "https")
	choiceVar(set, &o.generate, "generate-password", "", "",
		"make a new first or second password for the sync token; without it, the connection string has none", "1", "2")
	o.confirmation.define(set)
}

func (o *connectedRegistrySettings) run(ctx context.Context, env *Env, c *client) error {
	post := api.SettingsPost{ParentProtocol: o.protocol}
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
	if strings.Contains(settings.value.ConnectionString, "=<parent gateway endpoint>") {
		fmt.Fprintln(env.Stderr, "note: the root does not know the address of the parent at the site; "+
			"write its host:port in the place of <parent gateway endpoint>")
	}
	return env.print(settings.raw)
}
