package cli

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var operators = resource[api.Operator]{"operators", []column[api.Operator]{
	{title: "NAME", text: func(o api.Operator) string { return o.Name }},
	{title: "ROLE", text: func(o api.Operator) string { return o.Role }},
	{title: "REPOSITORIES", text: func(o api.Operator) string { return reachText(o.Reach, o.Repositories) }, rank: 1},
	{title: "LABELS", text: func(o api.Operator) string { return reachText(o.Reach, o.Labels) }, rank: 2},
	{title: "CREATION DATE", text: func(o api.Operator) string { return timeText(&o.CreationDate) }, rank: 3},
}}

// reachText returns one of the lists of a reach: (all) if there are no limits at all.
func reachText(r api.Reach, list []string) string {
	if len(r.Repositories)+len(r.Labels) == 0 {
		return "(all)"
	}
	return strings.Join(list, ", ")
}

// withPassword are the columns of an operator whose password is shown.
func withPassword() []column[api.Operator] {
	return append([]column[api.Operator]{
		operators.columns[0], operators.columns[1],
		{title: "PASSWORD", text: func(o api.Operator) string { return value(o.Password) }, whole: true},
	}, operators.columns[2:]...)
}

func newOperatorCommand(env *Env) *cobra.Command {
	return group("operator", "Operators: people and scripts that manage an instance",
		describe(verb(env, "create", "Create an operator, and print its password", `
			ferry operator create -r home -n anna --role admin
			ferry operator create -r home -n baltic --role admin --repositories 'team/*' --label group=baltic
			ferry operator create -r home -n ci --role reader --password-stdin < FILE`,
			&operatorCreate{}, "name", "role"), `
Create an operator. An admin may change everything, a reader may read. With
--repositories or --label, an operator sees and changes only these
repositories, the connected registries with one of these labels, and tokens and
scope maps that allow nothing else.

The password is printed once, unless it is read from standard input. Each
instance has its own operators: a connected registry gets none from its parent.`),
		verb(env, "list", "List the operators", "ferry operator list -r home -o table",
			&listOptions[api.Operator]{resource: operators}),
		verb(env, "show", "Show an operator with its limits", "ferry operator show -r home -n baltic",
			&showOptions[api.Operator]{resource: operators}, "name"),
		verb(env, "update", "Change the role or the limits of an operator", `
			ferry operator update -r home -n baltic --role reader
			ferry operator update -r home -n baltic --repositories 'team/*' 'base/*'
			ferry operator update -r home -n baltic --repositories "" --label ""`,
			&operatorUpdate{}, "name"),
		verb(env, "delete", "Delete an operator with its API keys", "ferry operator delete -r home -n baltic --yes",
			&confirmed{do: operators.delete,
				question: "Deleting the operator '%s' ends its logins and API keys. Proceed?"}, "name"),
		describe(verb(env, "reset-password", "Give an operator a new password, and print it", `
			ferry operator reset-password -r home -n anna
			ferry operator reset-password --data-dir /var/lib/ferry`,
			&operatorReset{}), `
Give an operator a new password. The old one ends at once; API keys stay.

With --data-dir, the command needs no login: whoever owns the data directory of
an instance on this machine may replace a lost password, whether the instance
runs or not. The file initial-admin-password there gets the new password of
admin.`),
		newAPIKeyCommand(env),
	)
}

// rights are the flags for the limits of an operator or an API key.
type rights struct {
	repositories, labels []string
}

func (l *rights) define(set *pflag.FlagSet) {
	namesVar(set, &l.repositories, "repositories", "", "NAME...",
		"only these repositories, such as team/app or team/*; repeatable")
	namesVar(set, &l.labels, "label", "", "KEY=VALUE...",
		"only connected registries with one of these labels; repeatable")
}

type operatorCreate struct {
	named
	rights
	role      string
	fromStdin bool
}

func (o *operatorCreate) define(set *pflag.FlagSet) {
	o.named.define(set)
	o.rights.define(set)
	choiceVar(set, &o.role, "role", "", "", "what it may do", api.RoleAdmin, api.RoleReader)
	set.BoolVar(&o.fromStdin, "password-stdin", false,
		"read its password from standard input (default is a generated one)")
}

func (o *operatorCreate) run(ctx context.Context, env *Env, c *client) error {
	put := api.OperatorPut{Role: o.role, Repositories: o.repositories, Labels: o.labels}
	var err error
	if o.fromStdin {
		if put.Password, err = env.readPassword(true); err != nil {
			return err
		}
	}
	v, err := ask[api.Operator](ctx, c, call{
		method: http.MethodPut, path: resourcePath(operators.kind, o.name), body: put, create: true,
	})
	if err != nil {
		return err
	}
	return showPassword(env, v)
}

// showPassword shows an operator whose password may have been generated.
func showPassword(env *Env, v result[api.Operator]) error {
	if v.value.Password == nil {
		return show(env, v, operators.columns)
	}
	fmt.Fprintln(env.Stderr, "note: the password is shown only this once; store it safely")
	return show(env, v, withPassword())
}

type operatorUpdate struct {
	named
	patch api.OperatorPatch
}

func (o *operatorUpdate) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceOption(set, &o.patch.Role, "role", "what it may do", api.RoleAdmin, api.RoleReader)
	listOption(set, &o.patch.Repositories, "repositories", "NAME...",
		`only these repositories, instead of the former ones; "" is none`)
	listOption(set, &o.patch.Labels, "label", "KEY=VALUE...",
		`only connected registries with one of these labels, instead of the former ones; "" is none`)
}

func (o *operatorUpdate) run(ctx context.Context, env *Env, c *client) error {
	return operators.patch(ctx, env, c, o.patch, o.name, "one of --role, --repositories, --label")
}

type operatorReset struct {
	target
	name      string
	fromStdin bool
	machine   atMachine
}

func (o *operatorReset) define(set *pflag.FlagSet) {
	o.target.define(set)
	o.machine.define(set)
	textVar(set, &o.name, "name", "n", "NAME", "its name (default admin)")
	set.BoolVar(&o.fromStdin, "password-stdin", false,
		"read its new password from standard input (default is a generated one)")
}

// firstOperator is the operator of the first start.
const firstOperator = "admin"

func (o *operatorReset) client(env *Env) (*client, error) {
	if o.name == "" {
		o.name = firstOperator
	}
	switch {
	case o.machine.dataDir == "":
		return o.target.client(env)
	case o.registry != "":
		return nil, usagef("exactly one must be provided: --registry, or --data-dir")
	case o.fromStdin:
		return nil, usagef("--password-stdin needs --registry: with --data-dir, the password is generated")
	}
	return newLocalClient(o.machine.dataDir, env.Stderr), nil
}

func (o *operatorReset) run(ctx context.Context, env *Env, c *client) error {
	if c.local != "" {
		return o.machine.reset(ctx, env, c, o.name)
	}
	var post api.PasswordPost
	var err error
	if o.fromStdin {
		if post.Password, err = env.readPassword(true); err != nil {
			return err
		}
	}
	v, err := write[api.Operator](ctx, c, http.MethodPost, post, operators.kind, o.name, "password")
	if err != nil {
		return err
	}
	return showPassword(env, v)
}

var apiKeyColumns = []column[api.APIKey]{
	{title: "NAME", text: func(k api.APIKey) string { return k.Name }},
	{title: "ROLE", text: func(k api.APIKey) string { return k.Role }},
	{title: "EXPIRY (UTC)", text: func(k api.APIKey) string { return timeText(&k.Expiry) }},
	{title: "LAST USE (UTC)", text: func(k api.APIKey) string { return timeText(k.LastUseTime) }, rank: 1},
	{title: "REPOSITORIES", text: func(k api.APIKey) string { return reachText(k.Reach, k.Repositories) }, rank: 2},
	{title: "LABELS", text: func(k api.APIKey) string { return reachText(k.Reach, k.Labels) }, rank: 3},
}

func newAPIKeyCommand(env *Env) *cobra.Command {
	return group("api-key", "API keys: passwords of an operator for scripts, which expire",
		describe(verb(env, "create", "Create an API key of an operator, and print it", `
			ferry operator api-key create -r home --operator ci -n build --expires 90d
			ferry operator api-key create -r home --operator anna -n ci --expires 30d --role reader \
			--query value -o tsv --to-file ci.key`,
			&apiKeyCreate{}, "operator", "name", "expires"), `
Create an API key of an operator, which is printed once. Scripts use it as the
operator's password, or alone: Authorization: Bearer KEY. It may have fewer
rights than its operator, never more, and ends with it. An operator may make
its own keys; with an API key nobody may.`),
		verb(env, "list", "List the API keys of an operator, and when each was last used",
			"ferry operator api-key list -r home --operator ci -o table", &apiKeyList{}, "operator"),
		verb(env, "delete", "Delete an API key of an operator, which ends at once",
			"ferry operator api-key delete -r home --operator ci -n build --yes", &apiKeyDelete{}, "operator", "name"),
	)
}

// ofOperator are the flags of a command for the API keys of an operator.
type ofOperator struct {
	target
	operator string
}

func (o *ofOperator) define(set *pflag.FlagSet) {
	o.target.define(set)
	textVar(set, &o.operator, "operator", "", "NAME", "the operator that the API key belongs to")
}

type apiKeyCreate struct {
	ofOperator
	rights
	name, role string
	expires    time.Duration
}

func (o *apiKeyCreate) define(set *pflag.FlagSet) {
	o.ofOperator.define(set)
	o.rights.define(set)
	textVar(set, &o.name, "name", "n", "NAME", "the name of the API key")
	periodVar(set, &o.expires, "expires", "", "how long it is valid, such as 90d or 12h; at most two years")
	choiceVar(set, &o.role, "role", "", "", "what it may do (default the operator's role)", api.RoleAdmin,
		api.RoleReader)
}

func (o *apiKeyCreate) run(ctx context.Context, env *Env, c *client) error {
	put := api.APIKeyPut{
		Expiry: env.Now().UTC().Truncate(time.Second).Add(o.expires), Role: o.role, Repositories: o.repositories,
		Labels: o.labels,
	}
	v, err := write[api.APIKey](ctx, c, http.MethodPut, put, operators.kind, o.operator, "api-keys",
		url.PathEscape(o.name))
	if err != nil {
		return err
	}
	fmt.Fprintln(env.Stderr, "note: the API key is shown only this once; store it safely")
	columns := append([]column[api.APIKey]{
		apiKeyColumns[0], {title: "VALUE", text: func(k api.APIKey) string { return value(k.Value) }, whole: true},
	}, apiKeyColumns[1:]...)
	return show(env, v, columns)
}

type apiKeyList struct{ ofOperator }

func (o *apiKeyList) run(ctx context.Context, env *Env, c *client) error {
	all, err := pages[api.APIKey](ctx, c, resourcePath(operators.kind, o.operator, "api-keys"), nil, "value", 0)
	if err != nil {
		return err
	}
	return showAll(env, all, apiKeyColumns)
}

type apiKeyDelete struct {
	ofOperator
	confirmation
	name string
}

func (o *apiKeyDelete) define(set *pflag.FlagSet) {
	o.ofOperator.define(set)
	o.confirmation.define(set)
	textVar(set, &o.name, "name", "n", "NAME", "the name of the API key")
}

func (o *apiKeyDelete) run(ctx context.Context, env *Env, c *client) error {
	err := o.ask(env, "Deleting the API key '%s' invalidates access to anyone using it. Proceed?", o.name)
	if err != nil {
		return err
	}
	return c.remove(ctx, nil, operators.kind, o.operator, "api-keys", url.PathEscape(o.name))
}
