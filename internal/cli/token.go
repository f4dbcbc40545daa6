package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var tokens = resource[api.Token]{"tokens", []column[api.Token]{
	{title: "NAME", text: func(t api.Token) string { return t.Name }},
	{title: "SCOPE MAP", text: func(t api.Token) string { return lastSegment(value(t.ScopeMapID)) }},
	{title: "PASSWORD1 EXPIRY", text: func(t api.Token) string { return expiryOf(t, api.Password1) }, rank: 1},
	{title: "PASSWORD2 EXPIRY", text: func(t api.Token) string { return expiryOf(t, api.Password2) }, rank: 2},
	{title: "STATUS", text: func(t api.Token) string { return t.Status }},
	{title: "PROVISIONING STATE", text: func(t api.Token) string { return t.ProvisioningState }, rank: 4},
	{title: "CREATION DATE", text: func(t api.Token) string { return timeText(&t.CreationDate) }, rank: 3},
}}

// expiryOf returns the time when a token's password expires: "" if there is no such
// password, and Never if it does not expire.
func expiryOf(t api.Token, slot string) string {
	switch p := passwordOf(t.Credentials, slot); {
	case p == nil:
		return ""
	case p.Expiry == nil:
		return "Never"
	default:
		return timeText(p.Expiry)
	}
}

// passwordOf returns the password in a slot; nil if there is none.
func passwordOf(c api.TokenCredentials, slot string) *api.TokenPassword {
	for _, p := range c.Passwords {
		if p.Name == slot {
			return &p
		}
	}
	return nil
}

func newTokenCommand(env *Env) *cobra.Command {
	return group("token", "Tokens: credentials for machines that pull, push or sync",
		verb(env, "create", "Create a token, or replace one, with two new passwords", `
			ferry token create -r home -n line1 --scope-map pullers
			ferry token create -r home -n line1 --repository factory/app content/read --expiration-in-days 30`,
			&tokenCreate{}, "name"),
		verb(env, "show", "Show a token, without its passwords", "ferry token show -r home -n line1",
			&showOptions[api.Token]{resource: tokens}, "name"),
		verb(env, "list", "List the tokens", "ferry token list -r home -o table",
			&listOptions[api.Token]{resource: tokens}),
		verb(env, "update", "Change a token's scope map or status", `
			ferry token update -r home -n line1 --status disabled
			ferry token update -r home -n line1 --scope-map pullers`,
			&tokenUpdate{}, "name"),
		verb(env, "delete", "Delete a token", "ferry token delete -r home -n line1 --yes",
			&confirmed{do: tokens.delete,
				question: "Deleting the token '%s' will invalidate access to anyone using its credentials. Proceed?"},
			"name"),
		newTokenCredentialCommand(env),
	)
}

type tokenUpdate struct {
	named
	patch api.TokenPatch
}

func (o *tokenUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	keep := func(text string) error { o.patch.ScopeMap = &text; return noneEmpty([]string{text}) }
	set.Var(&flag{kind: "NAME", set: keep}, "scope-map", "the scope map with the permissions of the token")
	choiceOption(set, &o.patch.Status, "status", "whether the token can be used", api.Enabled, api.Disabled)
}

func (o *tokenUpdate) run(ctx context.Context, env *Env, c *client) error {
	return tokens.patch(ctx, env, c, o.patch, o.name, "one of --scope-map, --status")
}

type tokenCreate struct {
	named
	expiry
	scopeMap, status       string
	repositories, gateways [][]string // a name, then its actions
	noPasswords            bool
}

func (o *tokenCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	textVar(set, &o.scopeMap, "scope-map", "", "NAME", "the scope map with the permissions of the token")
	groupsVar(set, &o.repositories, "repository", "NAME ACTION...",
		"instead of --scope-map: a repository and the actions to allow on it. The new scope map is called "+
			"like the token, with -scope-map behind it; repeatable")
	groupsVar(set, &o.gateways, "gateway", "NAME ACTION...",
		"instead of --scope-map: a connected registry and the actions to allow on its gateway; repeatable")
	choiceVar(set, &o.status, "status", "", api.Enabled, "whether the token can be used", api.Enabled, api.Disabled)
	set.BoolVar(&o.noPasswords, "no-passwords", false,
		"make no passwords; ferry token credential generate makes them later")
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
	created := false // whether the scope map is new
	if len(actions) > 0 {
		put.ScopeMap = o.name + "-scope-map"
		if created, err = c.ensureScopeMap(ctx, put.ScopeMap, o.name, actions); err != nil {
			return err
		}
	}
	if !o.noPasswords {
		put.Passwords = []api.PasswordPut{{Name: api.Password1, Expiry: until}, {Name: api.Password2, Expiry: until}}
	}
	t, err := write[api.Token](ctx, c, http.MethodPut, put, tokens.kind, o.name)
	if status := statusOf(err); created && status >= 400 && status < 500 {
		return errors.Join(err, scopeMaps.delete(ctx, c, put.ScopeMap)) // the token was refused
	}
	if err != nil {
		return err
	}
	if o.noPasswords {
		return show(env, t, tokens.columns)
	}
	env.warnShownOnce()
	return show(env, t, append([]column[api.Token]{tokens.columns[0]}, passwordColumns(
		func(t api.Token) api.TokenCredentials { return t.Credentials })...))
}

// passwordColumns are the columns with the values of new passwords.
func passwordColumns[T any](of func(T) api.TokenCredentials) []column[T] {
	password := func(slot string) func(T) string {
		return func(v T) string { return value(value(passwordOf(of(v), slot)).Value) }
	}
	return []column[T]{
		{title: "PASSWORD1", text: password(api.Password1), whole: true},
		{title: "PASSWORD2", text: password(api.Password2), whole: true},
	}
}

// warnShownOnce writes a note to standard error, so that it does not mix with the result.
func (e *Env) warnShownOnce() {
	fmt.Fprintln(e.Stderr, "note: the passwords are shown only this once; store them safely")
}

// ensureScopeMap creates a scope map with exactly these actions, and reports whether it did. If it
// exists, it must have the same actions: one that another client has just created is never replaced.
func (c *client) ensureScopeMap(ctx context.Context, name, token string, actions []string) (created bool, err error) {
	put := api.ScopeMapPut{Description: "Made for the token " + token, Actions: actions}
	_, err = c.do(ctx, call{method: http.MethodPut, path: resourcePath(scopeMaps.kind, name), body: put, create: true})
	if statusOf(err) != http.StatusPreconditionFailed {
		return err == nil, err
	}
	existing, err := get[api.ScopeMap](ctx, c, scopeMaps.kind, name)
	if err != nil {
		return false, err
	}
	if slices.Equal(folded(existing.value.Actions), folded(actions)) {
		return false, nil
	}
	return false, withHint(fmt.Errorf("the scope map %s exists already, with other permissions", name),
		"change it with ferry scope-map update -n %s --add-repository ..., then give --scope-map %s", name, name)
}

// folded returns actions in lower case, sorted, each once.
func folded(actions []string) []string {
	var all []string
	for _, a := range actions {
		all = append(all, strings.ToLower(a))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func newTokenCredentialCommand(env *Env) *cobra.Command {
	return group("credential", "The two passwords of a token",
		describe(verb(env, "generate", "Make new passwords for a token, which replace the old ones", `
			ferry token credential generate -r home -n line1 --password1
			ferry token credential generate -r home -n line1 --expiration-in-days 30
			ferry token credential generate -r home -n line1 --password2 \
			--query 'passwords[1].value' -o tsv --to-file line1.password`,
			&credentialGenerate{}, "name"), `
Make new passwords for a token, which replace the old ones: both, unless a flag
names one. A token has two passwords, so that one can be replaced while
machines still use the other.`),
		verb(env, "delete", "Delete one or both passwords of a token",
			"ferry token credential delete -r home -n line1 --password2", &credentialDelete{}, "name"),
	)
}

// passwordSlots are the values of --password1 and --password2.
type passwordSlots struct {
	first, second bool
}

func (s *passwordSlots) define(set *pflag.FlagSet, verb string) {
	set.BoolVar(&s.first, api.Password1, false, verb+" the first password")
	set.BoolVar(&s.second, api.Password2, false, verb+" the second password")
}

func (s *passwordSlots) names() (names []string) {
	if s.first {
		names = append(names, api.Password1)
	}
	if s.second {
		names = append(names, api.Password2)
	}
	return names
}

type credentialGenerate struct {
	named
	expiry
	passwordSlots
}

func (o *credentialGenerate) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.passwordSlots.define(set, "make only")
	o.expiry.define(set)
}

func (o *credentialGenerate) run(ctx context.Context, env *Env, c *client) error {
	until, err := o.time(env.Now())
	if err != nil {
		return err
	}
	post := api.CredentialsPost{Passwords: o.names(), Expiry: until}
	if len(post.Passwords) == 0 {
		post.Passwords = []string{api.Password1, api.Password2}
	}
	made, err := write[api.TokenCredentials](ctx, c, http.MethodPost, post, tokens.kind, o.name, "credentials")
	if err != nil {
		return err
	}
	env.warnShownOnce()
	username := column[api.TokenCredentials]{title: "USERNAME",
		text: func(c api.TokenCredentials) string { return c.Username }}
	return show(env, made, append([]column[api.TokenCredentials]{username}, passwordColumns(
		func(c api.TokenCredentials) api.TokenCredentials { return c })...))
}

type credentialDelete struct {
	named
	passwordSlots
}

func (o *credentialDelete) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.passwordSlots.define(set, "delete")
}

func (o *credentialDelete) run(ctx context.Context, env *Env, c *client) error {
	names := o.names()
	if len(names) == 0 {
		return usagef("no credentials to delete: want --password1, --password2, or both")
	}
	for _, slot := range names {
		if err := c.remove(ctx, nil, tokens.kind, o.name, "credentials", slot); err != nil {
			return err
		}
	}
	return nil
}

// maxDays bounds --expiration-in-days: a hundred years.
const maxDays = 36500

// An expiry is the time when a password expires, from --expiration-in-days or --expiration.
type expiry struct {
	days *int
	at   time.Time
}

func (e *expiry) define(set *pflag.FlagSet) {
	numberOption(set, &e.days, "expiration-in-days", "days until the passwords expire (default never)")
	timeVar(set, &e.at, "expiration",
		"the time when the passwords expire, in UTC, such as 2031-12-31T12:59:59Z")
	numberOption(set, &e.days, "days", "the same as --expiration-in-days")
	set.Lookup("days").Hidden = true
}

// time returns the time when the password expires; nil is never.
func (e *expiry) time(now time.Time) (*time.Time, error) {
	switch days := value(e.days); {
	case e.days != nil && !e.at.IsZero():
		return nil, usagef("--expiration-in-days and --expiration are both given: want one of them")
	case e.days != nil && (days < 1 || days > maxDays):
		return nil, usagef("--expiration-in-days %d: want 1 to %d", days, maxDays)
	case e.days != nil:
		t := now.UTC().Truncate(time.Second).AddDate(0, 0, days)
		return &t, nil
	case e.at.IsZero():
		return nil, nil
	}
	if !e.at.After(now) {
		return nil, usagef("--expiration %s is in the past", e.at.Format(time.RFC3339))
	}
	return &e.at, nil
}
