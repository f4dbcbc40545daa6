package cli

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func newConnectedRegistryResyncCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "resync", "Let a site compare all that it has with its parent, at its next visit", "ferry connected-registry resync -r home -n ship1",
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodPost, connectedRegistries, name, nil, "resync")
			if err != nil {
				return err
			}
			return env.print(v, connectedRegistryDetail())
		})
}

func newConnectedRegistrySyncStatusCommand(env *Env) *cobra.Command {
	var name string
	var open bool
	var cmd *cobra.Command
	cmd = resourceVerb(env, &name, "sync-status", "Show what a site last said of its sync, tag by tag, also while it is offline", `
		ferry connected-registry sync-status -r home -n ship1
		ferry connected-registry sync-status -r home -n ship1 --open -o json`,
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, connectedRegistries, name, nil, "sync-status")
			if err != nil {
				return err
			}
			segment, err := escape(name)
			if err != nil {
				return err
			}
			items, err := c.syncItems(ctx, connectedRegistries+"/"+segment+"/sync-items", open)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("output") || env.query != "" {
				if env.output.value == "table" && env.query == "" {
					return env.print(items, syncItemColumns(items))
				}
				status, _ := v.(map[string]any)
				status["items"] = items
				return env.print(status, nil)
			}
			fmt.Fprintln(env.Stdout, saySite(v))
			return printItems(env, items)
		})
	cmd.Flags().BoolVar(&open, "open", false, "only what is not in sync")
	return cmd
}

// saySite puts what is known of a site into a few sentences.
func saySite(v any) string {
	name, state := cell(member(v, "name")), cell(member(v, "connectionState"))
	sync, ok := member(v, "sync").(map[string]any)
	if !ok {
		return fmt.Sprintf("%s is %s, and was never heard.", name, state)
	}
	age := time.Duration(number(member(v, "ageSeconds"))) * time.Second
	return fmt.Sprintf("%s is %s. %s ago, at %s, it said:\n%s", name, state, age, seconds(member(v, "heardTime")), sayStatus(sync))
}
