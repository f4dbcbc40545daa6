package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newTokenCreateCommand(env *Env) *cobra.Command {
	var name, scopeMap string
	var noPasswords bool
	var status *choiceFlag
	var repositories, gateways *listFlag
	var expire *expiry
	cmd := resourceVerb(env, &name, "create", "Create a token, or replace one, with two new passwords", `
		ferry token create -r home -n line1 --scope-map pullers
		ferry token create -r home -n line1 --repository factory/app content/read --expiration-in-days 30`,
		func(ctx context.Context, c *client) error {
			actions, err := actionsOf(repositories, gateways)
			if err != nil {
				return err
			}
			if (scopeMap == "") == (len(actions) == 0) {
				return usagef("exactly one must be provided: --scope-map, or --repository and --gateway with their actions")
			}
			until, err := expire.time(env.Now())
			if err != nil {
				return err
			}
			if len(actions) > 0 {
				scopeMap = name + "-scope-map"
				if err := c.ensureScopeMap(ctx, scopeMap, name, actions); err != nil {
					return err
				}
			}
			passwords := []any{}
			if !noPasswords {
				for _, slot := range []string{"password1", "password2"} {
					p := map[string]any{"name": slot}
					if until != nil {
						p["expiry"] = until
					}
					passwords = append(passwords, p)
				}
			}
			v, err := c.putResource(ctx, "tokens", name, map[string]any{"scopeMap": scopeMap, "status": status.value, "passwords": passwords})
			if err != nil {
				return err
			}
			if !noPasswords {
				env.warnShownOnce()
			}
			return env.print(v, tokenColumns())
		})
	flags := cmd.Flags()
	textVar(flags, &scopeMap, "scope-map", "", "NAME", "the scope map that says what the token may do")
	repositories = listVar(flags, "repository", "NAME ACTION...", "instead of --scope-map: a repository and its actions; makes the scope map NAME-scope-map; repeatable")
	gateways = listVar(flags, "gateway", "NAME ACTION...", "instead of --scope-map: a connected registry and its actions; repeatable")
	status = choiceVar(flags, "status", "", "enabled", "whether the token can be used", "enabled", "disabled")
	flags.BoolVar(&noPasswords, "no-passwords", false, "make no passwords yet")
	expire = expiryFlags(flags)
	return cmd
}

// warnShownOnce goes to standard error, so that it never mixes with the
// result that a script reads.
func (e *Env) warnShownOnce() {
	fmt.Fprintln(e.Stderr, "note: the passwords are shown only this once; store them safely")
}

// ensureScopeMap makes a scope map with exactly these actions. One that is
// there already must have the same.
func (c *client) ensureScopeMap(ctx context.Context, name, token string, actions []string) error {
	existing, err := c.resource(ctx, http.MethodGet, "scope-maps", name, nil)
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusNotFound {
		_, err = c.putResource(ctx, "scope-maps", name, map[string]any{"description": "Made for the token " + token, "actions": actions})
		return err
	}
	if err != nil {
		return err
	}
	var have []string
	list, _ := member(existing, "actions").([]any)
	for _, a := range list {
		have = append(have, cell(a))
	}
	if slices.Equal(folded(have), folded(actions)) {
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
