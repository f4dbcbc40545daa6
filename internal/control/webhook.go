package control

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"ferry/internal/api"
	"ferry/internal/events"
	"ferry/internal/metadb"
)

// maxWebhooks is how many webhooks a root may have, because each event is compared with all of them.
const maxWebhooks = 100

// Webhooks are the webhooks of a root, and the local ones of every instance.
type Webhooks struct {
	service *Service
	events  *events.Service
}

// NewWebhooks returns the webhooks of an instance.
func NewWebhooks(s *Service, e *events.Service) *Webhooks { return &Webhooks{s, e} }

// List returns every webhook, by name, after the local ones.
func (w *Webhooks) List(ctx context.Context) ([]api.Webhook, error) {
	return metadb.Read(ctx, w.service.db, func(tx *metadb.Tx) ([]api.Webhook, error) {
		all := []api.Webhook{}
		for _, l := range w.events.Locals() {
			v, err := w.localOf(tx, l)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		rows, err := tx.Webhooks()
		if err != nil {
			return nil, err
		}
		for _, row := range rows {
			v, err := w.webhookOf(tx, row)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		return all, nil
	})
}

// Get returns a webhook.
func (w *Webhooks) Get(ctx context.Context, name string) (api.Webhook, error) {
	return metadb.Read(ctx, w.service.db, func(tx *metadb.Tx) (api.Webhook, error) { return w.read(tx, name) })
}

func (w *Webhooks) read(tx *metadb.Tx, name string) (api.Webhook, error) {
	if l, ok := w.local(name); ok {
		return w.localOf(tx, l)
	}
	row, err := tx.Webhook(name)
	if err != nil {
		return api.Webhook{}, MapNotFound(err, "webhook", name)
	}
	return w.webhookOf(tx, row)
}

// local returns the local webhook name.
func (w *Webhooks) local(name string) (events.Local, bool) {
	all := w.events.Locals()
	i := slices.IndexFunc(all, func(l events.Local) bool { return l.Name == name })
	if i < 0 {
		return events.Local{}, false
	}
	return all[i], true
}

// checkNotLocal refuses a change of a local webhook.
func checkNotLocal(name string) error {
	if name == events.LocalHook || name == events.LocalWebhook {
		return Conflict("'%s' is the name of a setting of ferry serve", name).
			WithHint("change --hook or --webhook, and restart the instance")
	}
	return nil
}

// Put creates or replaces a webhook. Events that wait for one of the same name stay.
func (w *Webhooks) Put(ctx context.Context, by Caller, name string, put api.WebhookPut, when Precondition,
) (v api.Webhook, err error) {
	if err := checkName("a webhook", name); err != nil {
		return v, err
	}
	if err := checkNotLocal(name); err != nil {
		return v, err
	}
	enabled, err := isEnabled(cmp.Or(put.Status, api.Enabled))
	if err != nil {
		return v, err
	}
	spec := events.WebhookSpec{
		Actions: Union(nil, put.Actions), Scope: strings.Fields(put.Scope),
		Registries: Union(nil, put.ConnectedRegistries), Enabled: enabled, Authority: put.CertificateAuthority,
	}
	secrets := events.WebhookSecrets{URI: put.URI, Headers: put.Headers}
	secret := put.Secret
	err = w.service.Write(ctx, by, "write", "webhooks/"+name, func(tx *metadb.Tx) error {
		old, err := tx.Webhook(name)
		exists, err := when.CheckPut(old.Version, err, "webhook", name)
		if err != nil {
			return err
		}
		if exists {
			was, err := events.SpecOf(old)
			if err != nil {
				return err
			}
			spec.After = was.After
		} else if err := checkWebhookCount(tx); err != nil {
			return err
		}
		v, err = w.store(tx, metadb.Webhook{Name: name, CreatedAt: w.service.now()}, spec, secrets, &secret, !exists)
		return err
	})
	w.notify(err)
	return v, err
}

// Update changes a webhook.
func (w *Webhooks) Update(ctx context.Context, by Caller, name string, patch api.WebhookPatch, when Precondition,
) (v api.Webhook, err error) {
	if err := checkNotLocal(name); err != nil {
		return v, err
	}
	err = w.service.Write(ctx, by, "update", "webhooks/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Webhook(name)
		if err := when.CheckChange(row.Version, err, "webhook", name); err != nil {
			return err
		}
		spec, err := events.SpecOf(row)
		if err != nil {
			return err
		}
		wasEnabled := spec.Enabled
		secrets, err := w.events.OpenSecrets(row)
		if err != nil && (patch.URI == nil || patch.Secret == nil) {
			return unreadable(name, err)
		}
		if patch.Status != nil {
			if spec.Enabled, err = isEnabled(*patch.Status); err != nil {
				return err
			}
		}
		if patch.Actions != nil {
			spec.Actions = Union(nil, patch.Actions)
		}
		if patch.Scope != nil {
			spec.Scope = strings.Fields(*patch.Scope)
		}
		if patch.ConnectedRegistries != nil {
			spec.Registries = Union(nil, patch.ConnectedRegistries)
		}
		set(&spec.Authority, patch.CertificateAuthority)
		moved := patch.URI != nil && *patch.URI != secrets.URI
		if moved && patch.Headers == nil && len(secrets.Headers) > 0 && !sameOrigin(*patch.URI, secrets.URI) {
			return Invalid("the headers were given for %s, and are not sent to another host", secrets.Endpoint()).
				WithHint("give the headers again: --headers")
		}
		set(&secrets.URI, patch.URI)
		if patch.Headers != nil {
			secrets.Headers = patch.Headers
		}
		v, err = w.store(tx, row, spec, secrets, patch.Secret, spec.Enabled && !wasEnabled)
		return err
	})
	w.notify(err)
	return v, err
}

func sameOrigin(a, b string) bool {
	return events.WebhookSecrets{URI: a}.Endpoint() == events.WebhookSecrets{URI: b}.Endpoint()
}

// store checks and writes a webhook. A nil secret keeps the one that it has, and an empty one makes a
// new one. With fromNow, the webhook gets only later events.
func (w *Webhooks) store(tx *metadb.Tx, row metadb.Webhook, spec events.WebhookSpec, secrets events.WebhookSecrets,
	secret *string, fromNow bool) (v api.Webhook, err error) {
	made := ""
	if secret != nil {
		text := *secret
		if text == "" {
			made = events.NewSecret()
			text = made
		}
		if secrets.Key, err = events.ParseSecret(text); err != nil {
			return v, Invalid("%s", err)
		}
	}
	if err := cmp.Or(spec.Check(), secrets.Check()); err != nil {
		return v, Invalid("%s", err)
	}
	for i, name := range spec.Registries {
		if r := w.service.State().Registry(name); r != nil {
			spec.Registries[i] = r.Name
		} else if name != events.ThisInstance {
			return v, MapNotFound(metadb.ErrNotFound, "connected registry", name)
		}
	}
	if fromNow {
		if spec.After, err = tx.LastEvent(); err != nil {
			return v, err
		}
	}
	if row.Spec, err = json.Marshal(spec); err != nil {
		return v, err
	}
	if row.Secrets, err = w.events.SealSecrets(row.Name, secrets); err != nil {
		return v, err
	}
	if err := tx.PutWebhook(row); err != nil {
		return v, err
	}
	v, err = w.read(tx, row.Name)
	v.Secret = made
	return v, err
}

// unreadable is the refusal of a change that needs secrets of a webhook that cannot be decrypted.
func unreadable(name string, err error) error {
	return Conflict("%s", err).
		WithHint("set them again: ferry webhook update -n %s --uri URL --headers NAME=VALUE --secret-stdin", name)
}

func checkWebhookCount(tx *metadb.Tx) error {
	rows, err := tx.Webhooks()
	if err == nil && len(rows) >= maxWebhooks {
		err = Conflict("there are %d webhooks already, which is the most", len(rows)).
			WithHint("delete one that is not needed: ferry webhook list, then ferry webhook delete -n NAME")
	}
	return err
}

func isEnabled(status string) (bool, error) {
	switch status {
	case api.Enabled:
		return true, nil
	case api.Disabled:
		return false, nil
	}
	return false, Invalid("'%.32s' is not a status: want enabled or disabled", status)
}

// Delete deletes a webhook with its events.
func (w *Webhooks) Delete(ctx context.Context, by Caller, name string, when Precondition) error {
	if err := checkNotLocal(name); err != nil {
		return err
	}
	err := w.service.Write(ctx, by, "delete", "webhooks/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Webhook(name)
		if err := when.CheckChange(row.Version, err, "webhook", name); err != nil {
			return err
		}
		return tx.DeleteWebhook(name)
	})
	w.notify(err)
	return err
}

// Config returns the address of a webhook, and the names of its headers.
func (w *Webhooks) Config(ctx context.Context, by Caller, name string) (c api.WebhookConfig, err error) {
	if err := checkNotLocal(name); err != nil {
		return c, err
	}
	err = w.service.Write(ctx, by, "read-config", "webhooks/"+name, func(tx *metadb.Tx) error {
		row, err := tx.Webhook(name)
		if err != nil {
			return MapNotFound(err, "webhook", name)
		}
		secrets, err := w.events.OpenSecrets(row)
		if err != nil {
			return unreadable(name, err)
		}
		c = api.WebhookConfig{ServiceURI: secrets.URI, CustomHeaders: map[string]string{}}
		for name := range maps.Keys(secrets.Headers) {
			c.CustomHeaders[name] = "***"
		}
		return nil
	})
	return c, err
}

// Ping sends a test to a webhook, and returns its answer.
func (w *Webhooks) Ping(ctx context.Context, by Caller, name string) (p api.WebhookPing, err error) {
	if err := checkNotLocal(name); err != nil {
		return p, err
	}
	var row metadb.Webhook
	err = w.service.Write(ctx, by, "ping", "webhooks/"+name, func(tx *metadb.Tx) error {
		row, err = tx.Webhook(name)
		return MapNotFound(err, "webhook", name)
	})
	if err != nil {
		return p, err
	}
	outcome := "the endpoint accepts it"
	p.ID, p.StatusCode, err = w.events.Ping(ctx, row)
	if err != nil {
		p.Error, outcome = new(err.Error()), err.Error()
	}
	w.service.AuditOutcome(ctx, by, "ping", "webhooks/"+name, outcome)
	return p, nil
}

// Events returns the events of a webhook that q selects, newest first.
func (w *Webhooks) Events(ctx context.Context, q metadb.DeliveryQuery) ([]api.WebhookEvent, error) {
	return metadb.Read(ctx, w.service.db, func(tx *metadb.Tx) ([]api.WebhookEvent, error) {
		if _, err := w.read(tx, q.Webhook); err != nil {
			return nil, err
		}
		rows, err := tx.Deliveries(q)
		all := []api.WebhookEvent{}
		for _, row := range rows {
			all = append(all, webhookEventOf(row))
		}
		return all, err
	})
}

func webhookEventOf(row metadb.Delivery) api.WebhookEvent {
	e := api.WebhookEvent{
		ID: row.ID, State: row.State, Tries: row.Tries, Queued: row.QueuedAt, LastTry: api.Time(row.TriedAt),
		Error: api.Text(row.Error), Request: api.Request{Method: "POST", Content: row.Event},
	}
	if row.State == metadb.Waiting {
		e.NextTry = api.Time(row.NextAt)
	}
	if row.Status != 0 {
		e.Response = &api.Response{StatusCode: int(row.Status)}
	}
	return e
}

// Retry sends events of a webhook again that were given up: the one with the number id, or all if id
// is 0. It also works for local webhooks, in every instance.
func (w *Webhooks) Retry(ctx context.Context, by Caller, name string, id int64) (r api.WebhookRetried, err error) {
	object := "webhooks/" + name
	err = w.service.db.UpdateWithReserve(ctx, func(tx *metadb.Tx) error {
		if _, err := w.read(tx, name); err != nil {
			return err
		}
		if r.Count, err = tx.RetryDeliveries(name, id, w.service.now()); err != nil {
			return err
		}
		if id != 0 && r.Count == 0 {
			return Refuse(api.CodeNotFound, "the webhook '%s' has no event %d that was given up", name, id).
				WithHint("see ferry webhook list-events -n %s --state dead", name)
		}
		return w.service.Audit(tx, by, "retry", object)
	})
	if err == nil {
		w.events.Wake(name)
	}
	return r, err
}

func (w *Webhooks) notify(err error) {
	if err == nil {
		w.events.SubscribersChanged()
	}
}

// webhookOf returns the API's form of a row.
func (w *Webhooks) webhookOf(tx *metadb.Tx, row metadb.Webhook) (api.Webhook, error) {
	spec, err := events.SpecOf(row)
	if err != nil {
		return api.Webhook{}, err
	}
	v := api.Webhook{
		ID: "/webhooks/" + row.Name, Name: row.Name, Status: api.Disabled, Scope: strings.Join(spec.Scope, " "),
		Actions: api.List(spec.Actions), ConnectedRegistries: api.List(spec.Registries),
		CertificateAuthority: api.Text(spec.Authority), CreationDate: row.CreatedAt, ProvisioningState: api.Succeeded,
		Tagged: api.Tagged{ETag: ETag(row.Version)},
	}
	if spec.Enabled {
		v.Status = api.Enabled
	}
	if secrets, err := w.events.OpenSecrets(row); err == nil {
		v.Endpoint = secrets.Endpoint()
	}
	return v, countDeliveries(tx, &v)
}

// localOf returns the API's form of a local webhook.
func (w *Webhooks) localOf(tx *metadb.Tx, l events.Local) (api.Webhook, error) {
	v := api.Webhook{
		ID: "/webhooks/" + l.Name, Name: l.Name, Status: api.Enabled, Actions: events.LocalTypes(),
		ConnectedRegistries: []string{cmp.Or(w.service.self, events.ThisInstance)}, Endpoint: l.Endpoint,
		ProvisioningState: api.Succeeded,
	}
	return v, countDeliveries(tx, &v)
}

func countDeliveries(tx *metadb.Tx, v *api.Webhook) (err error) {
	if v.Pending, err = tx.CountDeliveries(v.Name, metadb.Waiting); err != nil {
		return err
	}
	if v.Dead, err = tx.CountDeliveries(v.Name, metadb.Dead); err != nil {
		return err
	}
	v.Dropped, err = events.DroppedDeliveries(tx, v.Name)
	return err
}

// Events returns the events that q selects, newest first.
func (s *Service) Events(ctx context.Context, q metadb.EventQuery) ([]api.Event, error) {
	list := func(tx *metadb.Tx) ([]metadb.Event, error) { return tx.Events(q) }
	return readAll(ctx, s, list, func(e metadb.Event) api.Event {
		return api.Event{
			ID: e.ID, Time: e.At, Type: e.Type, ConnectedRegistry: api.Text(e.Registry), Repository: e.Repository,
			Tag: api.Text(e.Tag), Digest: api.Text(e.Digest), Reason: api.Text(e.Reason), Detail: api.Text(e.Detail),
		}
	})
}
