package cli

import (
	"context"
	"net/http"

	"github.com/spf13/cobra"
)

func scopeMapColumns() []column {
	return []column{
		{title: "NAME", path: "name"},
		{title: "TYPE", path: "type"},
		{title: "CREATION DATE", path: "creationDate", show: seconds},
		{title: "DESCRIPTION", path: "description"},
	}
}

func newScopeMapCommand(env *Env) *cobra.Command {
	return group("scope-map", "Scope maps: named lists of permissions",
		newScopeMapCreateCommand(env),
		newScopeMapShowCommand(env),
		newScopeMapListCommand(env),
		newScopeMapUpdateCommand(env),
		newScopeMapDeleteCommand(env),
	)
}

func newScopeMapCreateCommand(env *Env) *cobra.Command {
	var t *target
	var name, description string
	var repositories, gateways *listFlag
	cmd := verb("create", "Create a scope map, or replace one", `
		ferry scope-map create -r home -n pullers --repository factory/app content/read metadata/read
		ferry scope-map create -r home -n pullers --description "for the line" --repository factory/* content/read --repository base content/read`,
		func(cmd *cobra.Command) error {
			if err := require(cmd, "name"); err != nil {
				return err
			}
			actions, err := actionsOf(repositories, gateways)
			if err != nil {
				return err
			}
			if len(actions) == 0 {
				return usagef("at least one --repository or --gateway must be provided, with its actions")
			}
			c, err := t.client()
			if err != nil {
				return err
			}
			v, err := c.putResource(cmd.Context(), "scope-maps", name, map[string]any{"description": description, "actions": actions})
			if err != nil {
				return err
			}
			return env.print(v, scopeMapColumns())
		})
	t = env.registryFlags(cmd)
	textVar(cmd.Flags(), &name, "name", "n", "NAME", "name of the scope map")
	textVar(cmd.Flags(), &description, "description", "", "TEXT", "what it is for, in at most 256 characters")
	repositories = listVar(cmd.Flags(), "repository", "NAME ACTION...", "a repository, prefix/* or *, and its actions: content/read, content/write, content/delete, metadata/read, metadata/write; repeatable")
	gateways = listVar(cmd.Flags(), "gateway", "NAME ACTION...", "a connected registry and its actions: config/read, config/write, message/read, message/write; repeatable")
	return cmd
}

func newScopeMapShowCommand(env *Env) *cobra.Command {
	var name string
	return resourceVerb(env, &name, "show", "Show a scope map", "ferry scope-map show -r home -n pullers",
		func(ctx context.Context, c *client) error {
			v, err := c.resource(ctx, http.MethodGet, "scope-maps", name, nil)
			if err != nil {
				return err
			}
			return env.print(v, scopeMapColumns())
		})
}

func newScopeMapListCommand(env *Env) *cobra.Command {
	var t *target
	cmd := verb("list", "List the scope maps", "ferry scope-map list -r home -o table",
		func(cmd *cobra.Command) error {
			c, err := t.client()
			if err != nil {
				return err
			}
			v, err := c.list(cmd.Context(), "scope-maps", nil)
			if err != nil {
				return err
			}
			return env.print(v, scopeMapColumns())
		})
	t = env.registryFlags(cmd)
	return cmd
}

func newScopeMapUpdateCommand(env *Env) *cobra.Command {
	var name, description string
	var addRepositories, removeRepositories, addGateways, removeGateways *listFlag
	var cmd *cobra.Command
	cmd = resourceVerb(env, &name, "update", "Change a scope map, for all its tokens at once", `
		ferry scope-map update -r home -n pullers --add-repository factory/tool content/read
		ferry scope-map update -r home -n pullers --remove-repository factory/app metadata/read`,
		func(ctx context.Context, c *client) error {
			add, err := actionsOf(addRepositories, addGateways)
			if err != nil {
				return err
			}
			remove, err := actionsOf(removeRepositories, removeGateways)
			if err != nil {
				return err
			}
			changes := map[string]any{}
			if len(add) > 0 {
				changes["addActions"] = add
			}
			if len(remove) > 0 {
				changes["removeActions"] = remove
			}
			if cmd.Flags().Changed("description") {
				changes["description"] = description
			}
			if len(changes) == 0 {
				return usagef("nothing to change: want one of --add-repository, --remove-repository, --add-gateway, --remove-gateway, --description")
			}
			v, err := c.resource(ctx, http.MethodPatch, "scope-maps", name, changes)
			if err != nil {
				return err
			}
			return env.print(v, scopeMapColumns())
		})
	flags := cmd.Flags()
	textVar(flags, &description, "description", "", "TEXT", "what it is for, in at most 256 characters")
	addRepositories = listVar(flags, "add-repository", "NAME ACTION...", "permissions to add; repeatable")
	removeRepositories = listVar(flags, "remove-repository", "NAME ACTION...", "permissions to remove, before any are added; repeatable")
	addGateways = listVar(flags, "add-gateway", "NAME ACTION...", "gateway permissions to add; repeatable")
	removeGateways = listVar(flags, "remove-gateway", "NAME ACTION...", "gateway permissions to remove; repeatable")
	return cmd
}

func newScopeMapDeleteCommand(env *Env) *cobra.Command {
	var name string
	var confirm *confirmation
	cmd := resourceVerb(env, &name, "delete", "Delete a scope map", "ferry scope-map delete -r home -n pullers --yes",
		func(ctx context.Context, c *client) error {
			if err := confirm.ask("Deleting the scope map '%s' will remove its permissions with associated tokens. Proceed?", name); err != nil {
				return err
			}
			_, err := c.resource(ctx, http.MethodDelete, "scope-maps", name, nil)
			return err
		})
	confirm = env.confirmation(cmd.Flags())
	return cmd
}

// actionsOf turns --repository NAME ACTION... and --gateway NAME ACTION...
// into the strings of a scope map.
func actionsOf(repositories, gateways *listFlag) ([]string, error) {
	var all []string
	for _, kind := range []struct {
		prefix, noun string
		flag         *listFlag
	}{{"repositories/", "repository", repositories}, {"gateway/", "gateway", gateways}} {
		for _, group := range kind.flag.groups {
			if len(group) < 2 {
				return nil, withHint(usagef("at least one action must be specified with the %s %s", kind.noun, clip(group[0])),
					"as in: %s %s", group[0], map[string]string{"repository": "content/read metadata/read", "gateway": "config/read message/read"}[kind.noun])
			}
			for _, action := range group[1:] {
				all = append(all, kind.prefix+group[0]+"/"+action)
			}
		}
	}
	return all, nil
}
