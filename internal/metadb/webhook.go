package metadb

import (
	"encoding/json"
	"time"
)

// A Webhook is a row of webhooks.
type Webhook struct {
	Name      string
	Spec      json.RawMessage // settings of an operator
	Secrets   string          // its address, headers and key, encrypted
	CreatedAt time.Time
	Version   int64 // counts edits, beginning at 1
}

const webhookColumns = `name, spec, secrets, created_at, version`

func (w *Webhook) fields() []any {
	return []any{&w.Name, (*[]byte)(&w.Spec), &w.Secrets, at(&w.CreatedAt), &w.Version}
}

// Webhook returns the webhook name.
func (tx *Tx) Webhook(name string) (Webhook, error) {
	return get[Webhook](tx, "read webhook "+name, `SELECT `+webhookColumns+` FROM webhooks WHERE name = $1`, name)
}

// Webhooks returns every webhook, by name.
func (tx *Tx) Webhooks() ([]Webhook, error) {
	return list[Webhook](tx, "list webhooks", `SELECT `+webhookColumns+` FROM webhooks ORDER BY name`)
}

// PutWebhook writes a webhook. A row of the same name keeps its creation time, and its version is
// incremented. The version of w is ignored.
func (tx *Tx) PutWebhook(w Webhook) error {
	tx.Changed(WebhookTopic, "")
	return tx.do("write webhook "+w.Name, `INSERT INTO webhooks (`+webhookColumns+`) VALUES ($1, $2, $3, $4, 1)
		ON CONFLICT (name) DO UPDATE SET spec = excluded.spec, secrets = excluded.secrets,
		version = webhooks.version + 1`, w.Name, string(w.Spec), w.Secrets, millis(w.CreatedAt))
}

// DeleteWebhook deletes a webhook with its deliveries.
func (tx *Tx) DeleteWebhook(name string) error {
	tx.Changed(WebhookTopic, "")
	err := tx.one("delete webhook "+name, `DELETE FROM webhooks WHERE name = $1`, name)
	if err != nil {
		return err
	}
	return tx.do("delete webhook "+name, `DELETE FROM deliveries WHERE webhook = $1`, name)
}

// The states of a delivery.
const (
	Waiting   = "pending"
	Delivered = "delivered"
	Dead      = "dead" // it was given up
)

// A Delivery is a row of deliveries: an event that a webhook gets.
type Delivery struct {
	Webhook  string
	ID       int64
	Queue    string          // deliveries of one queue are sent in order
	Event    json.RawMessage // the CloudEvent
	State    string
	Tries    int64
	QueuedAt time.Time
	NextAt   time.Time // of the next try
	TriedAt  time.Time // of the last try; zero is never
	Status   int64     // of the last answer; 0 is none
	Error    string    // of the last try
}

const deliveryColumns = `webhook, id, queue, event, state, tries, queued_at, next_at, tried_at, status, error`

func (d *Delivery) fields() []any {
	return []any{
		&d.Webhook, &d.ID, &d.Queue, (*[]byte)(&d.Event), &d.State, &d.Tries, at(&d.QueuedAt), at(&d.NextAt),
		at(&d.TriedAt), &d.Status, &d.Error,
	}
}

// deliveries is the counter that numbers deliveries.
const deliveries = "deliveries"

// AddDelivery queues a delivery under the next number.
func (tx *Tx) AddDelivery(d Delivery) error {
	id, err := tx.Next(deliveries)
	if err != nil {
		return err
	}
	return tx.do("write delivery", `INSERT INTO deliveries (`+deliveryColumns+`)
		VALUES ($1, $2, $3, $4, $5, 0, $6, $6, 0, 0, '')`,
		d.Webhook, id, d.Queue, string(d.Event), Waiting, millis(d.QueuedAt))
}

// DueDeliveries returns the first limit deliveries of a webhook that may be tried at now: of each
// queue only the oldest one that is pending. Other queues do not wait for it.
func (tx *Tx) DueDeliveries(webhook string, now time.Time, limit int) ([]Delivery, error) {
	return list[Delivery](tx, "list deliveries of "+webhook, `SELECT `+deliveryColumns+` FROM deliveries d
		WHERE webhook = $1 AND state = $2 AND next_at <= $3 AND NOT EXISTS (SELECT 1 FROM deliveries e
			WHERE e.webhook = $1 AND e.state = $2 AND e.queue = d.queue AND e.id < d.id)
		ORDER BY id LIMIT $4`, webhook, Waiting, millis(now), limit)
}

// NextDelivery returns when the next pending delivery of a webhook is due; zero if none is pending.
func (tx *Tx) NextDelivery(webhook string) (time.Time, error) {
	ms, err := get[int64](tx, "read next delivery of "+webhook, `SELECT COALESCE(MIN(next_at), 0) FROM deliveries d
		WHERE webhook = $1 AND state = $2 AND NOT EXISTS (SELECT 1 FROM deliveries e
			WHERE e.webhook = $1 AND e.state = $2 AND e.queue = d.queue AND e.id < d.id)`, webhook, Waiting)
	if err != nil || ms == 0 {
		return time.Time{}, err
	}
	return time.UnixMilli(ms).UTC(), nil
}

// SetDelivery writes the state of a delivery, and its last try.
func (tx *Tx) SetDelivery(d Delivery) error {
	return tx.do("write delivery", `UPDATE deliveries SET state = $3, tries = $4, next_at = $5, tried_at = $6,
		status = $7, error = $8 WHERE webhook = $1 AND id = $2`,
		d.Webhook, d.ID, d.State, d.Tries, millis(d.NextAt), millis(d.TriedAt), d.Status, d.Error)
}

// A DeliveryQuery selects deliveries of a webhook. A zero field, other than Limit, selects all.
type DeliveryQuery struct {
	Webhook string
	State   string
	Before  int64 // only those with a lower number
	Limit   int   // of the newest ones
}

// Deliveries returns the deliveries that q selects, newest first.
func (tx *Tx) Deliveries(q DeliveryQuery) ([]Delivery, error) {
	return list[Delivery](tx, "list deliveries of "+q.Webhook, `SELECT `+deliveryColumns+` FROM deliveries
		WHERE webhook = $1 AND ($2 = '' OR state = $2) AND ($3 = 0 OR id < $3) ORDER BY id DESC LIMIT $4`,
		q.Webhook, q.State, q.Before, q.Limit)
}

// CountDeliveries returns how many deliveries of a webhook are in a state.
func (tx *Tx) CountDeliveries(webhook, state string) (int64, error) {
	return get[int64](tx, "count deliveries of "+webhook,
		`SELECT COUNT(*) FROM deliveries WHERE webhook = $1 AND state = $2`, webhook, state)
}

// TrimDeliveries deletes all but the last keep deliveries of a webhook that are in a state, and
// returns how many those were.
func (tx *Tx) TrimDeliveries(webhook, state string, keep int) (int64, error) {
	n, err := tx.exec(`DELETE FROM deliveries WHERE webhook = $1 AND state = $2 AND id <= COALESCE((SELECT id
		FROM deliveries WHERE webhook = $1 AND state = $2 ORDER BY id DESC LIMIT 1 OFFSET $3), 0)`, webhook, state,
		keep)
	return n, wrap(err, "delete deliveries of "+webhook)
}

// RetryDeliveries makes dead deliveries of a webhook pending again: the one with the number id, or
// all of them if id is 0. It returns how many those were.
func (tx *Tx) RetryDeliveries(webhook string, id int64, now time.Time) (int64, error) {
	tx.Changed(WebhookTopic, "")
	n, err := tx.exec(`UPDATE deliveries SET state = $3, tries = 0, queued_at = $4, next_at = $4
		WHERE webhook = $1 AND state = $5 AND ($2 = 0 OR id = $2)`, webhook, id, Waiting, millis(now), Dead)
	return n, wrap(err, "write deliveries of "+webhook)
}
