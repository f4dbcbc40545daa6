package cli

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/auth"
)

var scopeMaps = resource[api.ScopeMap]{"scope-maps", []column[api.ScopeMap]{
	{title: "NAME", text: func(m api.ScopeMap) string { return m.Name }},
	{title: "TYPE", text: func(m api.ScopeMap) string { return m.Type }, rank: 3},
	{title: "CREATION DATE", text: func(m api.ScopeMap) string { return timeText(&m.CreationDate) }, rank: 2},
	{title: "ANONYMOUS FROM", rank: 1,
		text: func(m api.ScopeMap) string { return strings.Join(m.AnonymousNetworks, " ") }},
	{title: "DESCRIPTION", text: func(m api.ScopeMap) string { return m.Description }, cut: true},
}}

func newScopeMapCommand(env *Env) *cobra.Command {
	return group("scope-map", "Scope maps: named lists of permissions for tokens",
		verb(env, "create", "Create a scope map, or replace one", `
			ferry scope-map create -r home -n pullers --repository factory/app content/read metadata/read
			ferry scope-map create -r home -n pullers --description "for the production line" \
			--repository 'factory/*' content/read --repository base content/read
			ferry scope-map create -r home -n docker --repository 'docker.io/*' content/read \
			--anonymous-from 10.20.0.0/16`,
			&scopeMapCreate{}, "name"),
		verb(env, "show", "Show a scope map", "ferry scope-map show -r home -n pullers",
			&showOptions[api.ScopeMap]{resource: scopeMaps}, "name"),
		verb(env, "list", "List the scope maps", "ferry scope-map list -r home -o table",
			&listOptions[api.ScopeMap]{resource: scopeMaps}),
		verb(env, "update", "Change a scope map, for all its tokens at once", `
			ferry scope-map update -r home -n pullers --add-repository factory/tool content/read
			ferry scope-map update -r home -n pullers --remove-repository factory/app metadata/read
			ferry scope-map update -r home -n docker --no-anonymous`,
			&scopeMapUpdate{}, "name"),
		verb(env, "delete", "Delete a scope map", "ferry scope-map delete -r home -n pullers --yes",
			&confirmed{do: scopeMaps.delete,
				question: "Deleting the scope map '%s' will remove its permissions with associated tokens. Proceed?"},
			"name"),
	)
}

type scopeMapCreate struct {
	named
	description            string
	repositories, gateways [][]string // a name, then its actions
	anonymousFrom          []string
}

func (o *scopeMapCreate) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.name, "name", "n", "NAME", "name of the scope map")
	describe := func(text string) error { o.description = text; return nil } // it may be empty
	set.Var(&flag{kind: "TEXT", set: describe}, "description", "a description of at most 256 characters")
	groupsVar(set, &o.repositories, "repository", "NAME ACTION...",
		"a repository, prefix/* or *, and the actions to allow on it: content/read, content/write, "+
			"content/delete, metadata/read, metadata/write; repeatable")
	groupsVar(set, &o.gateways, "gateway", "NAME ACTION...",
		"a connected registry and the actions to allow on its gateway: config/read, config/write, "+
			"message/read, message/write; repeatable")
	namesVar(set, &o.anonymousFrom, "anonymous-from", "", "CIDR...",
		"a network whose clients may pull the repositories without credentials, such as 10.20.0.0/16, here and "+
			"from each connected registry with a client token of this scope map; repeatable")
}

func (o *scopeMapCreate) run(ctx context.Context, env *Env, c *client) error {
	actions, err := actionsOf(o.repositories, o.gateways)
	if err != nil {
		return err
	}
	if len(actions) == 0 {
		return usagef("at least one --repository or --gateway must be provided, with its actions")
	}
	if err := env.checkAnonymous(o.anonymousFrom); err != nil {
		return err
	}
	put := api.ScopeMapPut{Description: o.description, Actions: actions, AnonymousNetworks: o.anonymousFrom}
	return scopeMaps.change(ctx, env, c, http.MethodPut, put, o.name)
}

type scopeMapUpdate struct {
	named
	description                         *string
	addRepositories, removeRepositories [][]string
	addGateways, removeGateways         [][]string
	anonymousFrom                       []string // nil leaves them as they are
	noAnonymous                         bool
}

func (o *scopeMapUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	textOption(set, &o.description, "description", "", "TEXT", "a description of at most 256 characters")
	groupsVar(set, &o.addRepositories, "add-repository", "NAME ACTION...",
		"a repository and the actions to add, such as factory/app content/read; repeatable")
	groupsVar(set, &o.removeRepositories, "remove-repository", "NAME ACTION...",
		"a repository and the actions to remove, before any are added; repeatable")
	groupsVar(set, &o.addGateways, "add-gateway", "NAME ACTION...",
		"a connected registry and the gateway actions to add, such as config/read; repeatable")
	groupsVar(set, &o.removeGateways, "remove-gateway", "NAME ACTION...",
		"a connected registry and the gateway actions to remove, before any are added; repeatable")
	listOption(set, &o.anonymousFrom, "anonymous-from", "CIDR...",
		"a network whose clients may pull the repositories without credentials; repeatable. These networks "+
			"replace the former ones")
	set.BoolVar(&o.noAnonymous, "no-anonymous", false, "allow no pulls without credentials")
}

func (o *scopeMapUpdate) run(ctx context.Context, env *Env, c *client) error {
	add, err := actionsOf(o.addRepositories, o.addGateways)
	if err != nil {
		return err
	}
	remove, err := actionsOf(o.removeRepositories, o.removeGateways)
	if err != nil {
		return err
	}
	if o.noAnonymous {
		if len(o.anonymousFrom) > 0 {
			return usagef("--no-anonymous and --anonymous-from exclude each other")
		}
		o.anonymousFrom = []string{}
	}
	if err := env.checkAnonymous(o.anonymousFrom); err != nil {
		return err
	}
	patch := api.ScopeMapPatch{Description: o.description, AddActions: add, RemoveActions: remove,
		AnonymousNetworks: o.anonymousFrom}
	return scopeMaps.patch(ctx, env, c, patch, o.name, "one of --add-repository, --remove-repository, "+
		"--add-gateway, --remove-gateway, --description, --anonymous-from, --no-anonymous")
}

// checkAnonymous checks the networks of anonymous clients, and warns of one that has every address.
func (e *Env) checkAnonymous(texts []string) error {
	networks, err := auth.ParseNetworks(texts)
	if err != nil {
		return usageError{err}
	}
	for _, n := range networks {
		if auth.IsEverywhere(n) {
			fmt.Fprintf(e.Stderr, "warning: %s has every address: everybody who can reach the registry, or a "+
				"connected registry with this scope map, may pull without credentials\n", n)
		}
	}
	return nil
}

// actionsOf turns the values of --repository NAME ACTION... and --gateway NAME ACTION...
// into the actions of a scope map.
func actionsOf(repositories, gateways [][]string) ([]string, error) {
	var all []string
	for _, kind := range []struct {
		prefix, noun, actions string
		check                 func(name string) error
		groups                [][]string
	}{
		{"repositories/", "repository", "content/read metadata/read", auth.CheckRule, repositories},
		{"gateway/", "gateway", "config/read message/read", auth.CheckGatewayName, gateways},
	} {
		for _, group := range kind.groups {
			if err := kind.check(group[0]); err != nil {
				return nil, usageError{err}
			}
			if len(group) < 2 {
				err := usagef("at least one action must be specified with the %s %s", kind.noun, clip(group[0]))
				return nil, withHint(err, "for example: --%s %s %s", kind.noun, group[0], kind.actions)
			}
			for _, action := range group[1:] {
				all = append(all, kind.prefix+group[0]+"/"+action)
			}
		}
	}
	return all, nil
}
