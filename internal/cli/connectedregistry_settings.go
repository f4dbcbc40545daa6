package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func newConnectedRegistrySettingsCommand(env *Env) *cobra.Command {
	var name string
	var protocol, generate *choiceFlag
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "get-settings", "Show what an instance needs to become a connected registry", `
		ferry connected-registry get-settings -r home -n ship1 --parent-protocol https --generate-password 1 --yes
		ferry connected-registry get-settings -r home -n ship1 --parent-protocol http --generate-password 1 --yes --query ACR_REGISTRY_CONNECTION_STRING -o tsv`,
		func(ctx context.Context, c *client) error {
			body := map[string]any{"parentProtocol": protocol.value}
			if generate.value != "" {
				if err := confirm.ask("Are you sure you want to generate the password%s of the sync token of '%s'? An instance that uses it must be given the new one.", generate.value, name); err != nil {
					return err
				}
				body["generatePassword"] = int(generate.value[0] - '0')
			}
			v, err := c.resource(ctx, http.MethodPost, connectedRegistries, name, body, "settings")
			if err != nil {
				return err
			}
			if generate.value != "" {
				env.warnShownOnce()
			}
			return env.print(v, nil)
		})
	cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return require(cmd, "name", "parent-protocol") }
	flags := cmd.Flags()
	protocol = choiceVar(flags, "parent-protocol", "", "", "how the instance reaches its parent", "http", "https")
	generate = choiceVar(flags, "generate-password", "", "", "make a new password for the sync token, in this slot", "1", "2")
	confirm = env.confirmation(flags)
	return cmd
}
