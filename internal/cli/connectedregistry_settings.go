package cli

import (
	"context"
	"net/http"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

type registrySettings struct {
	named
	confirmation
	protocol string
	generate string // which password; "" is none
}

func (o *registrySettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceVar(set, &o.protocol, "parent-protocol", "", "", "how the instance reaches its parent", "http", "https")
	choiceVar(set, &o.generate, "generate-password", "", "", "make a new password for the sync token, in this slot", "1", "2")
	o.confirmation.define(set)
}

func (o *registrySettings) run(ctx context.Context, env *Env, c *client) error {
	post := api.SettingsPost{ParentProtocol: o.protocol}
	if o.generate != "" {
		err := o.ask(env, "Are you sure you want to generate the password%s of the sync token of '%s'? "+
			"An instance that uses it must be given the new one.", o.generate, o.name)
		if err != nil {
			return err
		}
		post.GeneratePassword = int(o.generate[0] - '0')
	}
	settings, err := write[api.InstanceSettings](ctx, c, http.MethodPost, post, connectedRegistries.kind, o.name, "settings")
	if err != nil {
		return err
	}
	if o.generate != "" {
		env.warnShownOnce()
	}
	return env.print(settings.raw)
}
