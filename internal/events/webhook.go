package events

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"ferry/internal/metadb"
	"ferry/internal/oci"
	"ferry/internal/outbound"
	"ferry/internal/retry"
)

// KeyFile is the file in the data directory with the key that encrypts the secrets of webhooks.
const KeyFile = "webhook.key"

// A WebhookSpec has the settings of a webhook that are no secrets.
type WebhookSpec struct {
	Actions    []string `json:"actions"`              // types of events; at least one
	Scope      []string `json:"scope,omitempty"`      // patterns without an action; none is all
	Registries []string `json:"registries,omitempty"` // see [Selection]
	Enabled    bool     `json:"enabled"`
	Authority  string   `json:"certificateAuthority,omitempty"` // PEM; beside those of the machine
	After      int64    `json:"after,omitempty"`                // only events with a higher number
}

// Check returns an error unless the settings are valid. It writes scopes in the reference's short
// form, such as "app" for app:latest, as they are.
func (w WebhookSpec) Check() error {
	if len(w.Actions) == 0 {
		return errors.New("it needs at least one action: " + strings.Join(Types(), ", "))
	}
	for _, a := range w.Actions {
		if !slices.Contains(Types(), a) {
			return fmt.Errorf("'%.32s' is not an action: want some of %s", a, strings.Join(Types(), ", "))
		}
	}
	for _, text := range w.Scope {
		if _, err := ParseScope(scopePattern(text)); err != nil {
			return fmt.Errorf("scope '%.100s': %w", text, err)
		}
	}
	if w.Authority != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(w.Authority)) {
		return errors.New("the certificate authorities are not PEM certificates")
	}
	return nil
}

// scopePattern returns the pattern of a scope: as in the reference, a bare repository is its tag
// latest.
func scopePattern(scope string) string {
	if oci.CheckRepository(scope) == nil {
		return scope + ":latest"
	}
	return scope
}

// selection returns which events the webhook gets.
func (w WebhookSpec) selection() Selection {
	s := Selection{Types: w.Actions, Registries: w.Registries, After: w.After}
	for _, text := range w.Scope {
		if p, err := ParseScope(scopePattern(text)); err == nil {
			s.Scope = append(s.Scope, p)
		}
	}
	return s
}

// WebhookSecrets are the settings of a webhook that are secrets, because an address and headers often
// have a password in them.
type WebhookSecrets struct {
	URI     string            `json:"uri"`
	Headers map[string]string `json:"headers,omitempty"`
	Key     []byte            `json:"key"` // with which deliveries are signed
}

// Limits on the secrets of a webhook.
const (
	maxURI         = 2048
	maxHeaders     = 20
	maxHeaderValue = 4096
	minKey, maxKey = 24, 64 // bytes, of Standard Webhooks
)

var headerName = regexp.MustCompile(`^[A-Za-z0-9!#$%&'*+.^_|~-]{1,100}$`)

// ownHeaders are those that a delivery has anyway.
var ownHeaders = []string{"Content-Type", "Content-Length", "Host", "Connection", "Transfer-Encoding", "User-Agent",
	"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Trailer", "Upgrade", "Te", "Expect"}

// Check returns an error unless the secrets are valid. The error has none of them.
func (w WebhookSecrets) Check() error {
	u, err := url.Parse(w.URI)
	switch {
	case len(w.URI) > maxURI:
		return fmt.Errorf("the URI is longer than %d bytes", maxURI)
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		return errors.New("the URI is not a complete http or https address")
	case u.User != nil:
		return errors.New("the URI has a user or a password: put them in a header, such as Authorization")
	case len(w.Headers) > maxHeaders:
		return fmt.Errorf("there are more than %d headers", maxHeaders)
	case len(w.Key) < minKey || len(w.Key) > maxKey:
		return fmt.Errorf("the secret has %d bytes: want %d to %d", len(w.Key), minKey, maxKey)
	}
	for name, value := range w.Headers {
		if !headerName.MatchString(name) || slices.Contains(ownHeaders, http.CanonicalHeaderKey(name)) {
			return fmt.Errorf("the header '%.50s' cannot be set", name)
		}
		if len(value) > maxHeaderValue || strings.ContainsFunc(value, unicode.IsControl) {
			return fmt.Errorf("the value of the header '%.50s' is not valid", name)
		}
	}
	return nil
}

// Endpoint returns the origin of the URI, which is no secret.
func (w WebhookSecrets) Endpoint() string {
	u, err := url.Parse(w.URI)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// secretPrefix begins a secret in the form of Standard Webhooks.
const secretPrefix = "whsec_"

// NewSecret returns a random key in the form of Standard Webhooks.
func NewSecret() string {
	key := make([]byte, 32)
	rand.Read(key)
	return secretPrefix + base64.StdEncoding.EncodeToString(key)
}

// ParseSecret returns the key in a secret in the form of Standard Webhooks. The error does not have
// the secret.
func ParseSecret(text string) ([]byte, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	key, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(key) < minKey || len(key) > maxKey {
		return nil, fmt.Errorf("the secret is not %s and the base64 of %d to %d bytes", secretPrefix, minKey, maxKey)
	}
	return key, nil
}

// purpose is what the secrets of a webhook are encrypted for.
func purpose(name string) string { return "webhooks/" + name }

// SealSecrets encrypts the secrets of a webhook.
func (s *Service) SealSecrets(name string, w WebhookSecrets) (string, error) {
	text, err := json.Marshal(w)
	if err != nil {
		return "", err
	}
	return s.options.Key.Encrypt(purpose(name), string(text)), nil
}

// OpenSecrets decrypts the secrets of a webhook.
func (s *Service) OpenSecrets(row metadb.Webhook) (w WebhookSecrets, err error) {
	if s.options.Key == nil {
		return w, errors.New("a connected registry has no webhooks of its own")
	}
	text, err := s.options.Key.Decrypt(purpose(row.Name), row.Secrets)
	if err == nil {
		err = json.Unmarshal([]byte(text), &w)
	}
	if err != nil {
		return w, fmt.Errorf("the secrets of the webhook %s cannot be decrypted with the key of this data directory",
			row.Name)
	}
	return w, nil
}

// SpecOf returns the settings in a row.
func SpecOf(row metadb.Webhook) (w WebhookSpec, err error) {
	if err = json.Unmarshal(row.Spec, &w); err != nil {
		err = fmt.Errorf("read webhook %s: %w", row.Name, err)
	}
	return w, err
}

// subscriberOf returns the subscriber of an enabled webhook; nil if it is disabled or unusable.
func (s *Service) subscriberOf(row metadb.Webhook) *subscriber {
	spec, err := SpecOf(row)
	if err != nil || !spec.Enabled {
		return nil
	}
	secrets, err := s.OpenSecrets(row)
	if err != nil {
		s.log.Error("webhook is not used", "webhook", row.Name, "err", err)
		return nil
	}
	return &subscriber{
		name: row.Name, version: row.Version, selection: spec.selection(), policy: webhookPolicy,
		receiver: NewEndpoint(spec, secrets, s.now),
	}
}

// Ping sends a test to a webhook, at once and once.
func (s *Service) Ping(ctx context.Context, row metadb.Webhook) (id string, status int, err error) {
	spec, err := SpecOf(row)
	if err != nil {
		return "", 0, err
	}
	secrets, err := s.OpenSecrets(row)
	if err != nil {
		return "", 0, err
	}
	e := metadb.Event{Origin: "ping-" + strconv.FormatInt(s.now().UnixMilli(), 10), At: s.now(), Type: ping}
	event := cloudEvent(e, s.options.Source)
	endpoint := NewEndpoint(spec, secrets, s.now)
	endpoint.client.Timeout = pingTimeout
	defer endpoint.client.CloseIdleConnections()
	status, err = endpoint.Deliver(ctx, 0, event)
	return e.Origin, status, err
}

const (
	pingTimeout     = 15 * time.Second
	deliveryTimeout = 30 * time.Second
	maxAnswer       = 64 << 10 // bytes of an answer that are read, so that the connection can be used again
)

// An Endpoint delivers events over HTTP, signed as Standard Webhooks says.
type Endpoint struct {
	client  *http.Client
	secrets WebhookSecrets
	now     func() time.Time
}

var _ Receiver = (*Endpoint)(nil)

// NewEndpoint returns the endpoint of a webhook. It follows no redirect, because a delivery is a POST.
func NewEndpoint(spec WebhookSpec, secrets WebhookSecrets, now func() time.Time) *Endpoint {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if spec.Authority != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		roots.AppendCertsFromPEM([]byte(spec.Authority))
		config.RootCAs = roots
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, ForceAttemptHTTP2: true,
		DialContext:         outbound.Dial(net.Dialer{Timeout: 10 * time.Second}),
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: time.Minute,
		MaxIdleConnsPerHost: webhookPolicy.parallel, MaxResponseHeaderBytes: 64 << 10,
	}
	client := &http.Client{Transport: transport, Timeout: deliveryTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return &Endpoint{client, secrets, now}
}

// errGone is an endpoint that asks for no more deliveries.
var errGone = &Refusal{Status: http.StatusGone, Text: "the endpoint answered 410: it wants no more events"}

// An unwellError is an answer that says that the endpoint cannot take any event now.
type unwellError struct {
	status int
	pause  time.Duration
}

// Error implements error.
func (e *unwellError) Error() string { return statusText(e.status) }

// StatusCode returns the HTTP status of the answer.
func (e *unwellError) StatusCode() int { return e.status }

// RetryAfter returns the pause that the endpoint asked for; 0 is none.
func (e *unwellError) RetryAfter() time.Duration { return e.pause }

// Deliver implements [Receiver].
func (t *Endpoint) Deliver(ctx context.Context, _ int64, event json.RawMessage) (status int, err error) {
	var head struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(event, &head); err != nil {
		return 0, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.secrets.URI, bytes.NewReader(event))
	if err != nil {
		return 0, retry.WithoutURL(err)
	}
	for name, value := range t.secrets.Headers {
		r.Header.Set(name, value)
	}
	at := strconv.FormatInt(t.now().Unix(), 10)
	r.Header.Set("Content-Type", "application/cloudevents+json")
	r.Header.Set("User-Agent", "ferry")
	r.Header.Set("Webhook-Id", head.ID)
	r.Header.Set("Webhook-Timestamp", at)
	r.Header.Set("Webhook-Signature", Sign(t.secrets.Key, head.ID, at, event))
	resp, err := t.client.Do(r)
	if err != nil {
		return 0, retry.Unanswered(retry.WithoutURL(err), "the endpoint", t.client.Timeout) // the URI is a secret
	}
	defer resp.Body.Close()
	_, _ = io.CopyN(io.Discard, resp.Body, maxAnswer)
	switch status := resp.StatusCode; {
	case status/100 == 2:
		return status, nil
	case status == http.StatusGone:
		return status, errGone
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500,
		status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound,
		status/100 == 3:
		return status, &unwellError{status, oci.ParseRetryAfter(resp.Header.Get("Retry-After"), t.now())}
	default:
		return status, &Refusal{status, statusText(status)}
	}
}

// Sign returns the signature of a delivery, as Standard Webhooks says.
func Sign(key []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + timestamp + "."))
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
