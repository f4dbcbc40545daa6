package cli

import (
	"context"
	"errors"
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
	var l *syncListing
	cmd := resourceVerb(env, &name, "sync-status", "Show what a site last said of its sync, tag by tag, also while it is offline", `
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
			items, err := c.syncItems(ctx, connectedRegistries+"/"+segment+"/sync-items", l.onlyOpen())
			if err != nil {
				return err
			}
			site, ok := v.(map[string]any)
			if !ok {
				return errors.New("the registry's answer is not a site's sync")
			}
			return l.show(saySite(site), site, items, member(site, "sync.itemsSynced"))
		})
	l = env.syncListing(cmd)
	return cmd
}

// saySite puts what is known of a site into a few sentences.
func saySite(site map[string]any) string {
	text := fmt.Sprintf("%s is %s", cell(site["name"]), cell(site["connectionState"]))
	inactive := cell(member(site, "activation.status")) == "Inactive"
	if inactive {
		text += ": it is not activated"
	}
	sync, ok := site["sync"].(map[string]any)
	if !ok {
		return text + ", and was never heard."
	}
	who := "it"
	if inactive {
		who = "the instance that was"
	}
	age := time.Duration(number(site["ageSeconds"])) * time.Second
	return fmt.Sprintf("%s. %s ago, at %s, %s said:\n%s", text, age, seconds(site["heardTime"]), who, sayStatus(sync))
}
