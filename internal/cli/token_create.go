package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

type tokenCreate struct {
	named
	expiry
	scopeMap, status       string
	repositories, gateways [][]string // each with its actions
	noPasswords            bool
}

func (o *tokenCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	textVar(set, &o.scopeMap, "scope-map", "", "NAME", "the scope map that says what the token may do")
	groupsVar(set, &o.repositories, "repository", "NAME ACTION...", "instead of --scope-map: a repository and its actions; makes the scope map NAME-scope-map; repeatable")
	groupsVar(set, &o.gateways, "gateway", "NAME ACTION...", "instead of --scope-map: a connected registry and its actions; repeatable")
	choiceVar(set, &o.status, "status", "", api.Enabled, "whether the token can be used", api.Enabled, api.Disabled)
	set.BoolVar(&o.noPasswords, "no-passwords", false, "make no passwords yet")
	o.expiry.define(set)
}

func (o *tokenCreate) run(ctx context.Context, env *Env, c *client) error {
	actions, err := actionsOf(o.repositories, o.gateways)
	if err != nil {
		return err
	}
	if (o.scopeMap == "") == (len(actions) == 0) {
		return usagef("exactly one must be provided: --scope-map, or --repository and --gateway with their actions")
	}
	until, err := o.time(env.Now())
	if err != nil {
		return err
	}
	put := api.TokenPut{ScopeMap: o.scopeMap, Status: o.status}
	if len(actions) > 0 {
		put.ScopeMap = o.name + "-scope-map"
		if err := c.ensureScopeMap(ctx, put.ScopeMap, o.name, actions); err != nil {
			return err
		}
	}
	if !o.noPasswords {
		put.Passwords = []api.PasswordPut{{Name: api.Password1, Expiry: until}, {Name: api.Password2, Expiry: until}}
	}
	t, err := write[api.Token](ctx, c, http.MethodPut, put, tokens.kind, o.name)
	if err != nil {
		return err
	}
	if !o.noPasswords {
		env.warnShownOnce()
	}
	return show(env, t, tokens.columns)
}

// warnShownOnce goes to standard error, so that it never mixes with the
// result that a script reads.
func (e *Env) warnShownOnce() {
	fmt.Fprintln(e.Stderr, "note: the passwords are shown only this once; store them safely")
}

// ensureScopeMap makes a scope map with exactly these actions. One that is
// there already must have the same.
func (c *client) ensureScopeMap(ctx context.Context, name, token string, actions []string) error {
	existing, err := get[api.ScopeMap](ctx, c, scopeMaps.kind, name)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusNotFound {
		put := api.ScopeMapPut{Description: "Made for the token " + token, Actions: actions}
		_, err = write[api.ScopeMap](ctx, c, http.MethodPut, put, scopeMaps.kind, name)
		return err
	}
	if err != nil {
		return err
	}
	if slices.Equal(folded(existing.value.Actions), folded(actions)) {
		return nil
	}
	return withHint(fmt.Errorf("the scope map %s is there already, with other permissions", name),
		"change it with ferry scope-map update -n %s --add-repository ..., then give --scope-map %s", name, name)
}

// folded returns actions as a set: sorted, in lower case, each once.
func folded(actions []string) []string {
	var all []string
	for _, a := range actions {
		all = append(all, strings.ToLower(a))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
