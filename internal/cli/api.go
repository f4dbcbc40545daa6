package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/outbound"
	"ferry/internal/retry"
	"ferry/internal/telemetry"
)

// Limits on one call: an answer's size in bytes, and how long it may take.
const (
	maxAnswer      = 64 << 20
	callTimeout    = 2 * time.Minute
	connectTimeout = 10 * time.Second
	answerTimeout  = time.Minute // until an answer begins
)

// A client calls the APIs of one registry, as one user.
type client struct {
	name  string // of the registry, as the user gave it
	base  *url.URL
	login login
	http  *http.Client
	waits *waits
	local string // the data directory of an instance on this machine; "" if it is called over the network

	renew func(ctx context.Context) error // before each call of a person; nil does nothing

	unheard  *api.Unheard  // of the answer to the last write; may be nil
	warnings []api.Warning // of the answers to all writes
}

// newClient returns a client, which writes to say if it waits for a slow registry.
func newClient(l login, say io.Writer) (*client, error) {
	base, err := parseAddress(l.URL)
	if err != nil {
		return nil, err
	}
	l.URL = base.String()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: connectTimeout}).DialContext
	transport.TLSHandshakeTimeout, transport.ResponseHeaderTimeout = connectTimeout, answerTimeout
	transport.IdleConnTimeout = time.Second // there are no pauses between the calls of a command
	h := &http.Client{Timeout: callTimeout, Transport: transport, CheckRedirect: outbound.CheckRedirect}
	return &client{base: base, login: l, http: h, waits: &waits{out: say}}, nil
}

// newLocalClient returns a client of the instance that uses dataDir on this machine. It
// needs no login: the mode of the socket in dataDir decides which users may connect.
func newLocalClient(dataDir string, say io.Writer) *client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", config.LocalSocket(dataDir))
	}
	return &client{
		base: &url.URL{Scheme: "http", Host: "localhost"}, local: dataDir,
		http: &http.Client{Timeout: callTimeout,
			Transport: &http.Transport{DialContext: dial, IdleConnTimeout: time.Second}},
		waits: &waits{out: say},
	}
}

// A call is one request.
type call struct {
	method string
	path   string // escaped; see resourcePath
	query  url.Values
	body   any  // encoded as JSON; nil is none
	create bool // refused with 412 if the resource exists
}

// An answer is a response with a status below 300.
type answer struct {
	body   json.RawMessage // may be empty
	whole  []byte          // body, with white space at its ends
	header http.Header
}

// do makes a call. Every error names the registry, and has a hint if the user can do
// something about it.
func (c *client) do(ctx context.Context, r call) (*answer, error) {
	for segment := range strings.SplitSeq(r.path, "/") {
		if segment == "." || segment == ".." { // the path would lead to another resource
			return nil, usagef("%q is not a name", segment)
		}
	}
	var body io.Reader
	if r.body != nil {
		text, err := json.Marshal(r.body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	u := c.base.JoinPath(r.path)
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.create {
		req.Header.Set("If-None-Match", "*")
	}
	req.Header.Set("User-Agent", "ferry/"+telemetry.Version())
	switch {
	case c.local != "":
	case c.login.OIDC != nil:
		if c.renew != nil {
			if err := c.renew(ctx); err != nil {
				return nil, err
			}
		}
		req.Header.Set("Authorization", "Bearer "+c.login.OIDC.Token.ID)
	case c.login.Bearer != "":
		req.Header.Set("Authorization", "Bearer "+c.login.Bearer)
	default:
		req.SetBasicAuth(c.login.User, c.login.Password)
	}
	defer c.waits.begin(func() string { return "waiting for " + c.base.String() + " to answer" })()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.unreachable(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return nil, c.unreachable(err)
	}
	if len(text) > maxAnswer {
		return nil, fmt.Errorf("%s answered with more than %d MiB", c.base, maxAnswer>>20)
	}
	if resp.StatusCode >= 300 {
		return nil, c.refused(resp, text)
	}
	a := &answer{body: bytes.TrimSpace(text), whole: text, header: resp.Header}
	if len(a.body) > 0 && !json.Valid(a.body) {
		return nil, withHint(fmt.Errorf("%s answered with something other than JSON", c.base),
			"is a ferry registry at this address?")
	}
	var result api.WriteResult
	if r.method != http.MethodGet && json.Unmarshal(a.body, &result) == nil {
		c.warnings = append(c.warnings, result.Warnings...)
		if result.Unheard != nil {
			c.unheard = result.Unheard
		}
	}
	return a, nil
}

// A notRunningError is the data directory of an instance that does not run.
type notRunningError string

func (dir notRunningError) Error() string {
	return "no ferry serve runs with the data directory " + string(dir)
}

// A noAnswerError is why a request got no answer, or half of one.
type noAnswerError struct{ cause error }

func (e noAnswerError) Error() string { return e.cause.Error() }

func (e noAnswerError) Unwrap() error { return e.cause }

// transient reports whether a registry that answered before may soon do so again: it cannot be
// reached, is unwell or asks for patience.
func transient(err error) bool {
	status := statusOf(err)
	return errors.As(err, new(noAnswerError)) || status >= 500 || status == http.StatusTooManyRequests
}

// unreachable explains a request that got no answer, or half of one.
func (c *client) unreachable(err error) error {
	switch {
	case c.local == "":
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return withHint(notRunningError(c.local),
			"is ferry serve running, and is that its --data-dir?")
	case errors.Is(err, fs.ErrPermission):
		return withHint(fmt.Errorf("you may not open the socket in the data directory %s", c.local),
			"run the command as the user that ferry serve runs as, or as root; "+
				"or log in: ferry login NAME --url URL -u USER --password-stdin")
	case errors.Is(err, syscall.EINVAL):
		return withHint(fmt.Errorf("the path of the data directory %s is too long for a socket", c.local),
			"log in: ferry login NAME --url URL -u USER --password-stdin")
	}
	cause := retry.WithoutURL(err)
	text, within := cause.Error(), callTimeout
	if strings.Contains(text, "timeout awaiting response headers") {
		within = answerTimeout
	}
	err = fmt.Errorf("reach %s: %w", c.base, noAnswerError{retry.Unanswered(cause, "it", within)})
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case strings.Contains(text, "connection refused"):
		return withHint(err, "nothing listens at this address; is ferry serve running, and is the port right?")
	case strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return withHint(err, "the registry speaks plain HTTP: use http://%s", c.base.Host+c.base.Path)
	case strings.Contains(text, "malformed HTTP response"):
		return withHint(err, "the registry may speak TLS: use https://%s", c.base.Host+c.base.Path)
	case errors.As(err, new(x509.HostnameError)):
		return withHint(err, "use an address that the certificate names, or give the registry one for this address: "+
			"ferry serve --tls-names")
	case errors.As(err, new(x509.CertificateInvalidError)):
		return withHint(err, "is the clock right, on this machine and on the registry's? "+
			"Otherwise the registry needs a new certificate: ferry doctor --endpoint %s", c.base)
	case strings.Contains(text, "certificate signed by unknown authority"):
		return withHint(err, "trust its certificate authority: SSL_CERT_FILE=ca.pem ferry ...")
	case strings.Contains(text, "timeout awaiting response headers"):
		return withHint(err, "a program listens at this address, but does not answer: look at its log")
	case errors.As(err, new(net.Error)) && strings.Contains(text, "timeout"), errors.Is(err, context.DeadlineExceeded):
		return withHint(err, "is the address right, and does a firewall block the connection?")
	case strings.Contains(text, "no such host"):
		return withHint(err, "check the address for a misspelling")
	}
	return withHint(err, "ferry doctor --endpoint %s finds out why", c.base)
}

// A refusal is a response with a status of 300 or above.
type refusal struct {
	status int
	text   string
	hint   string
}

func (r *refusal) Error() string { return r.text }

// Hint returns the advice of the server, or of this program.
func (r *refusal) Hint() string { return r.hint }

// statusOf returns the status of a [refusal], and 0 for any other error.
func statusOf(err error) int {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.status
	}
	return 0
}

// registryHints are hints for error codes of the registry API, which has none itself.
var registryHints = map[string]string{
	"NAME_UNKNOWN":     "see ferry repository list",
	"MANIFEST_UNKNOWN": "see ferry repository show-tags",
}

// statusHints are hints for statuses, if the registry gives none. The map is never written.
var statusHints = map[int]string{
	http.StatusForbidden:             "log in as somebody with this right: ferry login NAME --url URL -u USER",
	http.StatusNotFound:              "the list command of the same kind has the names that exist",
	http.StatusConflict:              "the show command of the same kind has its state",
	http.StatusPreconditionFailed:    "somebody changed it meanwhile: look at it again, then repeat the command",
	http.StatusRequestEntityTooLarge: "make the change in several commands",
}

// fieldPrefix names the member of the request that an error is about, if it is one.
func fieldPrefix(location string) string {
	if name := strings.TrimPrefix(location, "body."); name != "" && name != "body" {
		return name + ": "
	}
	return ""
}

// refused reads an error in both forms that a registry may send: the problem document of
// the management API, and the errors of the registry API.
func (c *client) refused(resp *http.Response, text []byte) error {
	var doc struct {
		Detail, Hint string
		Errors       []struct{ Code, Message, Location string }
	}
	r := &refusal{status: resp.StatusCode}
	if json.Unmarshal(text, &doc) == nil {
		r.text, r.hint = doc.Detail, doc.Hint
		var more []string
		for _, e := range doc.Errors {
			if r.hint == "" {
				r.hint = registryHints[e.Code]
			}
			if m := strings.TrimSpace(e.Message); m != "" && m != r.text {
				if r.hint == "" && m == api.TextReadOnly {
					r.hint = "this site is ReadOnly: make the change at the root, and the next sync brings it"
				}
				text, command, ok := strings.Cut(m, "; ferry ") // how the registry API ends a refusal with advice
				if ok && r.hint == "" {
					m, r.hint = text, "ferry "+command
				}
				more = append(more, fieldPrefix(e.Location)+m)
			}
		}
		if len(more) > 0 {
			r.text = strings.TrimPrefix(r.text+": "+strings.Join(more, "; "), ": ")
		}
	}
	if bytes.Contains(text, []byte("HTTP request to an HTTPS server")) { // the text of net/http
		r.text, r.hint = fmt.Sprintf("%s speaks TLS, not plain HTTP", c.base), "use https://"+c.base.Host+c.base.Path
	}
	if r.text == "" {
		r.text = fmt.Sprintf("%s answered %s", c.base, resp.Status)
	}
	if r.hint != "" {
		return r
	}
	if to, err := resp.Location(); err == nil { // a redirect that was not followed
		r.hint = fmt.Sprintf("use the address that it redirects to: %s://%s", to.Scheme, to.Host)
	}
	switch status := resp.StatusCode; {
	case r.hint != "":
	case status >= 500:
		r.hint = "the registry's log says why; --debug shows the request"
	default:
		r.hint = cmp.Or(statusHints[status], "--debug shows the request and the answer")
	}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		r.text = fmt.Sprintf("%s does not accept the user %q with this password", c.base, c.login.User)
		r.hint = fmt.Sprintf("log in again: ferry login NAME --url %s -u USER --password-stdin", c.base)
	case http.StatusTooManyRequests:
		r.hint = "wait a while, then try again"
		if after := resp.Header.Get("Retry-After"); after != "" {
			r.hint = "try again in " + after + " s"
		}
	}
	return r
}
