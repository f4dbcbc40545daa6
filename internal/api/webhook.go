package api

import (
	"encoding/json"
	"time"
)

// A Webhook is an endpoint that gets events. Its address, headers and secret are never shown here.
type Webhook struct {
	ID                   string    `json:"id"`
	Name                 string    `json:"name"`
	Status               string    `json:"status" enum:"enabled,disabled"`
	Scope                string    `json:"scope" doc:"Repositories and tags, separated by spaces; empty is all."`
	Actions              []string  `json:"actions" nullable:"false"`
	ConnectedRegistries  []string  `json:"connectedRegistries" nullable:"false" doc:"Empty is all, and the root."`
	Endpoint             string    `json:"endpoint" doc:"The scheme and the host of its address, or the program."`
	CertificateAuthority *string   `json:"certificateAuthority" doc:"PEM, in addition to the system's."`
	Pending              int64     `json:"pending" doc:"How many events wait."`
	Dead                 int64     `json:"dead" doc:"How many events were given up, and can be retried."`
	Dropped              int64     `json:"dropped" doc:"How many events were dropped, because too many waited."`
	CreationDate         time.Time `json:"creationDate"`
	ProvisioningState    string    `json:"provisioningState"`
	Secret               string    `json:"secret,omitempty" doc:"Only in the answer to the request that made it."`

	Tagged
}

// A WebhookPut creates or replaces a webhook.
type WebhookPut struct {
	URI                  string            `json:"uri" maxLength:"2048"`
	Actions              []string          `json:"actions" nullable:"false" maxItems:"10"`
	Scope                string            `json:"scope,omitempty" maxLength:"8192"`
	ConnectedRegistries  []string          `json:"connectedRegistries,omitempty" maxItems:"1000"`
	Headers              map[string]string `json:"headers,omitempty" maxProperties:"20"`
	Status               string            `json:"status,omitempty" maxLength:"16" doc:"By default enabled."`
	Secret               string            `json:"secret,omitempty" maxLength:"200" doc:"Empty: a new one is made."`
	CertificateAuthority string            `json:"certificateAuthority,omitempty" maxLength:"262144" doc:"PEM."`
}

// A WebhookPatch changes a webhook. nil leaves a field unchanged.
type WebhookPatch struct {
	URI                  *string           `json:"uri,omitempty" maxLength:"2048"`
	Actions              []string          `json:"actions,omitzero" nullable:"false" maxItems:"10"`
	Scope                *string           `json:"scope,omitempty" maxLength:"8192"`
	ConnectedRegistries  []string          `json:"connectedRegistries,omitzero" nullable:"false" maxItems:"1000"`
	Headers              map[string]string `json:"headers,omitzero" nullable:"false" maxProperties:"20"`
	Status               *string           `json:"status,omitempty" maxLength:"16"`
	Secret               *string           `json:"secret,omitempty" maxLength:"200" doc:"Empty: a new one is made."`
	CertificateAuthority *string           `json:"certificateAuthority,omitempty" maxLength:"262144"`
}

// A WebhookConfig is the address of a webhook, and the names of its headers.
type WebhookConfig struct {
	ServiceURI    string            `json:"serviceUri"`
	CustomHeaders map[string]string `json:"customHeaders" nullable:"false" doc:"The values are not shown."`
}

// A WebhookPing is the answer of a webhook to a test.
type WebhookPing struct {
	ID         string  `json:"id" doc:"The id of the event that was sent."`
	StatusCode int     `json:"statusCode" doc:"Of the endpoint's answer; 0 is none."`
	Error      *string `json:"error"`
}

// A WebhookEvent is an event of a webhook: one that waits, that was delivered or that was given up.
type WebhookEvent struct {
	ID       int64      `json:"id"`
	State    string     `json:"state" enum:"pending,delivered,dead"`
	Tries    int64      `json:"tries"`
	Queued   time.Time  `json:"queuedTime"`
	LastTry  *time.Time `json:"lastTryTime"`
	NextTry  *time.Time `json:"nextTryTime"`
	Error    *string    `json:"error"`
	Request  Request    `json:"eventRequestMessage"`
	Response *Response  `json:"eventResponseMessage" doc:"Null: there was no answer."`
}

// A Request is what a webhook is sent.
type Request struct {
	Method  string          `json:"method"`
	Content json.RawMessage `json:"content" doc:"The CloudEvent."`
}

// A Response is the answer of a webhook.
type Response struct {
	StatusCode int `json:"statusCode"`
}

// A WebhookRetry selects the events of a webhook to send again.
type WebhookRetry struct {
	ID int64 `json:"id,omitempty" minimum:"0" doc:"Only this event; 0 is all that were given up."`
}

// A WebhookRetried says how many events are sent again.
type WebhookRetried struct {
	Count int64 `json:"count"`
}

// An Event is something that happened to content at the root or at a connected registry.
type Event struct {
	ID                int64     `json:"id" doc:"Events are numbered in the order in which they arrived."`
	Time              time.Time `json:"time" doc:"By the clock of the registry where it happened."`
	Type              string    `json:"type"`
	ConnectedRegistry *string   `json:"connectedRegistry" doc:"Null: this instance."`
	Repository        string    `json:"repository"`
	Tag               *string   `json:"tag"`
	Digest            *string   `json:"digest"`
	Reason            *string   `json:"reason" doc:"A code, of a failure."`
	Detail            *string   `json:"detail"`
}
