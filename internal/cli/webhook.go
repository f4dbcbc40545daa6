package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
)

var webhooks = resource[api.Webhook]{"webhooks", []column[api.Webhook]{
	{title: "NAME", text: func(w api.Webhook) string { return w.Name }},
	{title: "STATUS", text: func(w api.Webhook) string { return w.Status }},
	{title: "ACTIONS", text: func(w api.Webhook) string { return strings.Join(w.Actions, " ") }},
	{title: "SCOPE", text: func(w api.Webhook) string { return w.Scope }, cut: true},
	{title: "SITES", text: func(w api.Webhook) string { return strings.Join(w.ConnectedRegistries, " ") }, cut: true},
	{title: "ENDPOINT", text: func(w api.Webhook) string { return w.Endpoint }},
	{title: "PENDING", text: func(w api.Webhook) string { return fmt.Sprint(w.Pending) }},
	{title: "DEAD", text: func(w api.Webhook) string { return fmt.Sprint(w.Dead) }},
}}

func newWebhookCommand(env *Env) *cobra.Command {
	create := verb(env, "create", "Create a webhook: an address that gets events of the root and its sites", `
		ferry webhook create -r home -n deploy --uri https://ci.example/hooks/ferry --actions complete failed
		ferry webhook create -r home -n pushes --uri https://ci.example/hooks/ferry --actions push delete \
		--scope 'apps/*:*' --site . --headers Authorization='Bearer abc'
		ferry webhook create -r home -n ship1 --uri https://ci.internal/ --actions complete --site ship1 \
		--ca-file corp-ca.pem --secret-stdin < secret`,
		&webhookCreate{}, "name", "uri", "actions")
	create.Long = `Create a webhook: an address that gets events of the root and its connected
registries, as CloudEvents over HTTP.

Each delivery is signed in the form of Standard Webhooks (webhook-id,
webhook-timestamp, webhook-signature), with the secret that the answer shows
once. A delivery that fails is tried again for a day, those of one repository
in their order. After that it is listed with list-events --state dead, and
sent again with retry.

Connected registries send only the events that their --notifications select.`
	return group("webhook", "Webhooks: addresses that get events, signed and with retries",
		create,
		verb(env, "list", "List the webhooks, also those in the settings of ferry serve",
			"ferry webhook list -r home -o table",
			&listOptions[api.Webhook]{resource: webhooks}),
		verb(env, "show", "Show a webhook", "ferry webhook show -r home -n deploy",
			&showOptions[api.Webhook]{resource: webhooks}, "name"),
		verb(env, "get-config", "Show the address of a webhook, and the names of its headers",
			"ferry webhook get-config -r home -n deploy", &webhookConfig{}, "name"),
		verb(env, "update", "Change a webhook", `
			ferry webhook update -r home -n deploy --status disabled
			ferry webhook update -r home -n deploy --new-secret`, &webhookUpdate{}, "name"),
		verb(env, "delete", "Delete a webhook, with the events that wait for it",
			"ferry webhook delete -r home -n deploy --yes",
			&confirmed{do: webhooks.delete,
				question: "The webhook '%s' and the events that wait for it will be deleted. Proceed?"}, "name"),
		verb(env, "ping", "Send a test to a webhook, and show its answer", "ferry webhook ping -r home -n deploy",
			&webhookPing{}, "name"),
		verb(env, "list-events", "List the events of a webhook, newest first", `
			ferry webhook list-events -r home -n deploy -o table
			ferry webhook list-events -r home -n deploy --state dead`, &webhookEvents{}, "name"),
		verb(env, "retry", "Send events again that were given up", `
			ferry webhook retry -r home -n deploy
			ferry webhook retry -r home -n deploy --event 1042`, &webhookRetry{}, "name"),
	)
}

// webhookSettings are the settings of a webhook that can be changed.
type webhookSettings struct {
	named
	patch       api.WebhookPatch
	headers     []string
	caFile      *string
	secretStdin bool
}

func (o *webhookSettings) define(set *pflag.FlagSet) {
	o.named.define(set)
	textOption(set, &o.patch.URI, "uri", "", "URL", "the address that gets the events")
	listOption(set, &o.patch.Actions, "actions", "ACTION...",
		"what it gets: push, delete, complete (a sync completed an image at a site), failed, first_pull, dropped")
	textOption(set, &o.patch.Scope, "scope", "", "SCOPE",
		"of which repositories and tags: 'app:*', 'team/*', 'app:v1', or app, which is app:latest; several with "+
			"spaces between them; \"\" is all (default all)")
	listOption(set, &o.patch.ConnectedRegistries, "site", "NAME...",
		"of which connected registries; . is the root itself; \"\" is all of them and the root (default all)")
	namesVar(set, &o.headers, "headers", "", "NAME=VALUE...",
		"headers of each delivery. Other users of this machine can see them in the list of processes")
	choiceOption(set, &o.patch.Status, "status", "whether it gets events (default enabled)", api.Enabled, api.Disabled)
	textOption(set, &o.caFile, "ca-file", "", "FILE",
		"PEM file with certificate authorities to trust for the address, besides those of the registry's machine; "+
			"\"\" is none")
	set.BoolVar(&o.secretStdin, "secret-stdin", false,
		"read the secret that signs deliveries from standard input: whsec_ and the base64 of 24 to 64 bytes")
	for _, name := range []string{"location", "tags"} {
		ignored(set, name, "")
	}
}

// read reads the headers, the certificates and the secret.
func (o *webhookSettings) read(env *Env) error {
	for _, h := range o.headers {
		name, value, ok := strings.Cut(h, "=")
		if !ok {
			return usagef("--headers %.50s: want NAME=VALUE", name)
		}
		if o.patch.Headers == nil {
			o.patch.Headers = map[string]string{}
		}
		o.patch.Headers[name] = value
	}
	if o.caFile != nil {
		text, err := readCertificates(*o.caFile)
		if err != nil {
			return err
		}
		o.patch.CertificateAuthority = &text
	}
	if o.secretStdin {
		text, err := env.readPassword(true)
		if err != nil {
			return err
		}
		if text = strings.TrimSpace(text); text == "" {
			return usagef("there is no secret on standard input")
		}
		o.patch.Secret = &text
	}
	return nil
}

type webhookCreate struct{ webhookSettings }

func (o *webhookCreate) run(ctx context.Context, env *Env, c *client) error {
	if err := o.read(env); err != nil {
		return err
	}
	p := o.patch
	return webhooks.change(ctx, env, c, http.MethodPut, api.WebhookPut{
		URI: value(p.URI), Actions: p.Actions, Scope: value(p.Scope), ConnectedRegistries: p.ConnectedRegistries,
		Headers: p.Headers, Status: value(p.Status), Secret: value(p.Secret),
		CertificateAuthority: value(p.CertificateAuthority),
	}, o.name)
}

type webhookUpdate struct {
	webhookSettings
	newSecret bool
}

func (o *webhookUpdate) define(set *pflag.FlagSet) {
	o.webhookSettings.define(set)
	set.BoolVar(&o.newSecret, "new-secret", false, "make a new secret, which the answer shows once")
}

func (o *webhookUpdate) run(ctx context.Context, env *Env, c *client) error {
	if err := o.read(env); err != nil {
		return err
	}
	if o.newSecret {
		if o.secretStdin {
			return usagef("--new-secret and --secret-stdin exclude each other")
		}
		o.patch.Secret = new("")
	}
	return webhooks.patch(ctx, env, c, o.patch, o.name, "one of --uri, --actions, --scope, --site, --headers, "+
		"--status, --ca-file, --secret-stdin, --new-secret")
}

type webhookConfig struct{ named }

func (o *webhookConfig) run(ctx context.Context, env *Env, c *client) error {
	v, err := write[api.WebhookConfig](ctx, c, http.MethodPost, nil, webhooks.kind, o.name, "config")
	if err != nil {
		return err
	}
	return show(env, v, []column[api.WebhookConfig]{
		{title: "SERVICE URI", text: func(w api.WebhookConfig) string { return w.ServiceURI }},
		{title: "HEADERS", text: func(w api.WebhookConfig) string { return fmt.Sprint(len(w.CustomHeaders)) }},
	})
}

type webhookPing struct{ named }

func (o *webhookPing) run(ctx context.Context, env *Env, c *client) error {
	v, err := write[api.WebhookPing](ctx, c, http.MethodPost, nil, webhooks.kind, o.name, "ping")
	if err != nil {
		return err
	}
	if err := show(env, v, []column[api.WebhookPing]{
		{title: "ID", text: func(p api.WebhookPing) string { return p.ID }},
		{title: "STATUS CODE", text: func(p api.WebhookPing) string { return fmt.Sprint(p.StatusCode) }},
		{title: "ERROR", text: func(p api.WebhookPing) string { return value(p.Error) }},
	}); err != nil {
		return err
	}
	if v.value.Error != nil {
		return withHint(errors.New("the webhook did not accept the test: "+*v.value.Error),
			"see ferry webhook get-config -n %s", o.name)
	}
	return nil
}

var webhookEventColumns = []column[api.WebhookEvent]{
	{title: "ID", text: func(e api.WebhookEvent) string { return fmt.Sprint(e.ID) }},
	{title: "STATE", text: func(e api.WebhookEvent) string { return e.State }},
	{title: "QUEUED (UTC)", text: func(e api.WebhookEvent) string { return timeText(&e.Queued) }},
	{title: "TRIES", text: func(e api.WebhookEvent) string { return fmt.Sprint(e.Tries) }},
	{title: "STATUS CODE", text: func(e api.WebhookEvent) string {
		if e.Response == nil {
			return ""
		}
		return fmt.Sprint(e.Response.StatusCode)
	}},
	{title: "ERROR", text: func(e api.WebhookEvent) string { return value(e.Error) }, cut: true},
}

type webhookEvents struct {
	named
	state *string
	top   int
}

func (o *webhookEvents) define(set *pflag.FlagSet) {
	o.named.define(set)
	choiceOption(set, &o.state, "state", "only events that wait, that were delivered, or that were given up",
		"pending", "delivered", "dead")
	set.IntVar(&o.top, "top", 100, "show at most this many events; 0 is all")
}

func (o *webhookEvents) run(ctx context.Context, env *Env, c *client) error {
	query := url.Values{"n": {pageSizeOf(o.top)}}
	if o.state != nil {
		query.Set("state", *o.state)
	}
	all, err := pages[api.WebhookEvent](ctx, c, resourcePath(webhooks.kind, o.name, "events"), query, "value", o.top)
	if err != nil {
		return err
	}
	return showAll(env, all, webhookEventColumns)
}

// pageSizeOf returns the size of a page for at most top entries; 0 is all.
func pageSizeOf(top int) string {
	if top <= 0 {
		return "1000"
	}
	return strconv.Itoa(min(top, 1000))
}

type webhookRetry struct {
	named
	event int
}

func (o *webhookRetry) define(set *pflag.FlagSet) {
	o.named.define(set)
	set.IntVar(&o.event, "event", 0, "only the event with this id, from list-events; 0 is all that were given up")
}

func (o *webhookRetry) run(ctx context.Context, env *Env, c *client) error {
	v, err := write[api.WebhookRetried](ctx, c, http.MethodPost, api.WebhookRetry{ID: int64(o.event)}, webhooks.kind,
		o.name, "retry")
	if err != nil {
		return err
	}
	return show(env, v, []column[api.WebhookRetried]{
		{title: "COUNT", text: func(r api.WebhookRetried) string { return fmt.Sprint(r.Count) }},
	})
}
