package management

import (
	"context"
	"net/url"
	"strconv"

	"ferry/internal/api"
	"ferry/internal/control"
	"ferry/internal/events"
	"ferry/internal/metadb"
)

func (h *handler) webhooks(e *events.Service) {
	hooks := control.NewWebhooks(h.Control, e)
	const path = "/webhooks/{name}"
	register(h, operation{"GET /webhooks", "list-webhooks", "List the webhooks"},
		func(ctx context.Context, _ *struct{}) (*collection[api.Webhook], error) {
			return listed(hooks.List(ctx))
		})
	register(h, operation{"GET " + path, "get-webhook", "Get a webhook"}, show(hooks.Get))
	register(h, operation{"PUT " + path, "put-webhook",
		"Create a webhook, or replace it; only this answer has a secret that was made"},
		write(neverUnheard, hooks.Put))
	register(h, operation{"PATCH " + path, "update-webhook", "Change a webhook"}, write(neverUnheard, hooks.Update))
	register(h, operation{"DELETE " + path, "delete-webhook", "Delete a webhook, with the events that wait for it"},
		remove(neverUnheard, hooks.Delete))
	register(h, operation{"POST " + path + "/config", "get-webhook-config",
		"Get the address of a webhook, and the names of its headers"},
		func(ctx context.Context, in *About) (*plain[api.WebhookConfig], error) {
			v, err := hooks.Config(ctx, in.by, in.Name)
			return &plain[api.WebhookConfig]{v}, err
		})
	register(h, operation{"POST " + path + "/ping", "ping-webhook", "Send a test to a webhook, and return its answer"},
		func(ctx context.Context, in *About) (*plain[api.WebhookPing], error) {
			v, err := hooks.Ping(ctx, in.by, in.Name)
			return &plain[api.WebhookPing]{v}, err
		})
	register(h, operation{"POST " + path + "/retry", "retry-webhook-events",
		"Send events of a webhook again that were given up"},
		func(ctx context.Context, in *Post[api.WebhookRetry]) (*plain[api.WebhookRetried], error) {
			v, err := hooks.Retry(ctx, in.by, in.Name, in.Body.ID)
			return &plain[api.WebhookRetried]{v}, err
		})
	register(h, operation{"GET " + path + "/events", "list-webhook-events",
		"List the events of a webhook, newest first: those that wait, the last that it got, and those given up"},
		func(ctx context.Context, in *webhookEvents) (*page[api.WebhookEvent], error) {
			all, err := hooks.Events(ctx, metadb.DeliveryQuery{
				Webhook: in.Name, State: in.State, Before: in.Before, Limit: in.N + 1,
			})
			return newPage(all[:min(len(all), in.N)], len(all) > in.N, in.next), err
		})
}

// webhookEvents is the query of a page of the events of a webhook.
type webhookEvents struct {
	About
	N      int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
	Before int64  `query:"before" minimum:"0" doc:"Only events with a lower id."`
	State  string `query:"state" enum:"pending,delivered,dead" doc:"Only events in this state."`
}

// next returns the address of the page after an event.
func (q *webhookEvents) next(last api.WebhookEvent) string {
	v := url.Values{"n": {strconv.Itoa(q.N)}, "before": {strconv.FormatInt(last.ID, 10)}}
	if q.State != "" {
		v.Set("state", q.State)
	}
	return api.Root + "/webhooks/" + url.PathEscape(q.Name) + "/events?" + v.Encode()
}

// eventQuery is the query of a page of events.
type eventQuery struct {
	Call
	N                 int    `query:"n" minimum:"1" maximum:"1000" default:"100" doc:"How many at most."`
	Before            int64  `query:"before" minimum:"0" doc:"Only events with a lower id."`
	ConnectedRegistry string `query:"connectedRegistry" maxLength:"100" doc:"Only events of this connected registry."`
	Repository        string `query:"repository" maxLength:"255" doc:"Only events of this repository."`
	Type              string `query:"type" maxLength:"32" doc:"Only events of this type, such as failed."`
}

func (h *handler) events() {
	register(h, operation{"GET /events", "list-events", "List the events that are kept, newest first"},
		func(ctx context.Context, in *eventQuery) (*page[api.Event], error) {
			some := scan[api.Event]{next: func(after *api.Event, limit int) ([]api.Event, error) {
				q := metadb.EventQuery{
					Before: in.Before, Registry: in.ConnectedRegistry, Repository: in.Repository, Type: in.Type,
					Limit: limit,
				}
				if after != nil {
					q.Before = after.ID
				}
				return h.Control.Events(ctx, q)
			}}
			if in.by.Limits.Any() {
				some.keep = func(e api.Event) bool { return h.seesEvent(ctx, in.by, e) }
			}
			return some.page(in.N, in.next)
		})
}

// seesEvent reports whether a caller with limits sees an event: one of a repository and, if it
// happened elsewhere, a connected registry within its limits.
func (h *handler) seesEvent(ctx context.Context, by control.Caller, e api.Event) bool {
	objects := []string{"repositories/" + e.Repository}
	if e.ConnectedRegistry != nil {
		objects = append(objects, "connected-registries/"+*e.ConnectedRegistry)
	}
	for _, object := range objects {
		if exists, seen, err := h.Control.Sees(ctx, by.Limits, object); err != nil || !exists || !seen {
			return false
		}
	}
	return e.Repository != ""
}

// next returns the address of the page after an event.
func (q *eventQuery) next(last api.Event) string {
	v := url.Values{"n": {strconv.Itoa(q.N)}, "before": {strconv.FormatInt(last.ID, 10)}}
	for name, value := range map[string]string{
		"connectedRegistry": q.ConnectedRegistry, "repository": q.Repository, "type": q.Type,
	} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return api.Root + "/events?" + v.Encode()
}
