package cli

import (
	"context"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/terminal"
)

func newConnectedRegistryPermissionsCommand(env *Env) *cobra.Command {
	return group("permissions", "The repositories that a connected registry may sync",
		verb(env, "show", "Show the scope map of a connected registry's sync token",
			"ferry connected-registry permissions show -r home -n ship1 --query actions",
			&permissionsShow{}, "name"),
		describe(verb(env, "update", "Add or remove repositories of a connected registry", `
			ferry connected-registry permissions update -r home -n ship1 --add factory/new factory/tool
			ferry connected-registry permissions update -r home -n ship1 --remove factory/old
			ferry connected-registry permissions update -r home -n ship1 --add 'factory/*' '!factory/secret'`,
			&permissionsUpdate{}, "name"), `
Add or remove repositories of a connected registry, all at once or not at all.

A repository that is added is also granted to all ancestors, so that they get
it and pass it on. One that is removed is also taken from all descendants, and
from nobody else. An exclusion, such as '!factory/secret', takes a repository
out of a pattern; removing the exclusion brings the repository back.`),
	)
}

type permissionsShow struct{ named }

func (o *permissionsShow) run(ctx context.Context, env *Env, c *client) error {
	m, err := get[api.ScopeMap](ctx, c, connectedRegistries.kind, o.name, "permissions")
	if err != nil {
		return err
	}
	return show(env, m, scopeMaps.columns)
}

type permissionsUpdate struct {
	named
	patch api.PermissionsPatch
}

func (o *permissionsUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	namesVar(set, &o.patch.Add, "add", "", "NAME...",
		"repositories to add to it and to all its ancestors: names, team/*, *, or !NAME for an exclusion; repeatable")
	namesVar(set, &o.patch.Remove, "remove", "", "NAME...",
		"repositories to remove from it and from all its descendants, as its scope map names them; repeatable")
}

func (o *permissionsUpdate) run(ctx context.Context, env *Env, c *client) error {
	if len(o.patch.Add)+len(o.patch.Remove) == 0 {
		return usagef("nothing to change: want --add or --remove")
	}
	m, err := write[api.ScopeMap](ctx, c, http.MethodPatch, o.patch, connectedRegistries.kind, o.name, "permissions")
	if err != nil {
		return err
	}
	return show(env, m, scopeMaps.columns)
}

// newConnectedRegistryRepoCommand returns the command of the reference that permissions update has
// replaced.
func newConnectedRegistryRepoCommand(env *Env) *cobra.Command {
	cmd := verb(env, "repo", "Deprecated: use connected-registry permissions update",
		"ferry connected-registry repo -r home -n ship1 --add factory/new", &repoUpdate{}, "name")
	cmd.Hidden = true
	return cmd
}

type repoUpdate struct{ permissionsUpdate }

func (o *repoUpdate) run(ctx context.Context, env *Env, c *client) error {
	fmt.Fprintf(env.Stderr, "warning: this command is deprecated: use ferry connected-registry permissions update "+
		"-n %s\n", terminal.Printable(o.name))
	return o.permissionsUpdate.run(ctx, env, c)
}

// clientTokensList lists the client tokens of a connected registry.
type clientTokensList struct{ named }

func (o *clientTokensList) run(ctx context.Context, env *Env, c *client) error {
	path := resourcePath(connectedRegistries.kind, o.name, "client-tokens")
	all, err := pages[api.Token](ctx, c, path, nil, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, tokens.columns)
}
