// Package remote is a client of any OCI registry that implements the distribution
// specification. It logs in as the registry's challenge demands, reads ranges of blobs
// so that a transfer can resume after a cut, and verifies the digests of manifests.
// Begin with [New].
package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"

	"ferry/internal/outbound"
	"ferry/internal/retry"
)

// Options say how to reach a registry.
type Options struct {
	Username, Password string            // "" is anonymous, unless DockerLogins is set
	DockerLogins       bool              // use the logins of "docker login": its file, or a credential helper
	Transport          http.RoundTripper // nil is http.DefaultTransport
	UserAgent          string            // "" is "ferry"
}

// A Registry is a client of one registry. It is safe for concurrent use.
//
// If the registry answered, the error of a method is an [oci.Error] with the registry's
// own code and message, so that errors.Is works across HTTP. If the answer had a
// Retry-After header, the error has a method RetryAfter. A [LoginError] concerns this
// machine. All other errors concern the link.
type Registry struct {
	base            *url.URL
	client          *auth.Client
	responseTimeout time.Duration
	stallTimeout    time.Duration
}

// New returns a client of the registry at address, which is http:// or https:// and a
// host, without a path.
func New(address string, o Options) (*Registry, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" ||
		base.Host == "" || base.User != nil || base.Path != "" && base.Path != "/" {
		return nil, fmt.Errorf("%q is not a registry's address: want http:// or https:// and a host", address)
	}
	base.Path = ""
	client := &auth.Client{Client: outbound.NewClient(base, o.Transport), Cache: auth.NewCache()}
	switch {
	case o.Username != "" || o.Password != "":
		client.Credential = auth.StaticCredential(base.Host,
			auth.Credential{Username: o.Username, Password: o.Password})
	case o.DockerLogins && (os.Getenv("DOCKER_CONFIG") != "" || os.Getenv("HOME") != ""):
		store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
		if err != nil {
			return nil, fmt.Errorf("read Docker's configuration: %w", err)
		}
		client.Credential = cachedLogins(store)
	}
	if onThisMachine(base.Hostname()) {
		// A registry on this machine has its token endpoint here, too. For any other
		// registry, a challenge that names this machine would be an attack.
		client.BlockedRealmPrefixes = []netip.Prefix{}
	}
	client.SetUserAgent(cmp.Or(o.UserAgent, "ferry"))
	return &Registry{base, client, responseTimeout, stallTimeout}, nil
}

// Over returns a client of the same registry, with the same logins, that sends its
// requests over another transport. A request fails once the registry sends nothing for the
// timeout.
func (r *Registry) Over(transport http.RoundTripper, timeout time.Duration) *Registry {
	client := *r.client
	client.Client = outbound.NewClient(r.base, transport)
	return &Registry{r.base, &client, timeout, timeout}
}

// cachedLogins returns the logins that "docker login" cached in store.
func cachedLogins(store credentials.Store) auth.CredentialFunc {
	read := credentials.Credential(store)
	return func(ctx context.Context, host string) (auth.Credential, error) {
		login, err := read(ctx, host)
		if err != nil && ctx.Err() == nil {
			err = &LoginError{host, err}
		}
		return login, err
	}
}

// Host returns the registry's host, with its port if the address has one.
func (r *Registry) Host() string { return r.base.Host }

func onThisMachine(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// A request is a request to the registry's API.
type request struct {
	method     string
	repository string
	path       string // below the repository: "/blobs/sha256:..."
	query      url.Values
	header     http.Header
	body       io.Reader
	size       int64 // of body, in bytes
}

// scope is the scope that a token for q needs.
func (q request) scope() string {
	if q.method == http.MethodGet || q.method == http.MethodHead {
		return auth.ScopeRepository(q.repository, auth.ActionPull)
	}
	return auth.ScopeRepository(q.repository, auth.ActionPull, auth.ActionPush)
}

// do sends q, with the login that the registry asks for. The status of the response is
// below 300. The caller must close its body.
func (r *Registry) do(ctx context.Context, q request) (*http.Response, error) {
	target, err := r.base.Parse("/v2/" + (&url.URL{Path: q.repository}).EscapedPath() + q.path)
	if err != nil {
		return nil, err
	}
	target.RawQuery = q.query.Encode()
	return r.send(ctx, q, target)
}

// The timeouts of a registry without others.
const (
	// responseTimeout is how long a registry may take until its response begins. Some
	// take long to list many tags.
	responseTimeout = 5 * time.Minute
	// stallTimeout is how long a registry may send nothing in the middle of a response.
	stallTimeout = time.Minute
)

func (r *Registry) send(ctx context.Context, q request, target *url.URL) (*http.Response, error) {
	if q.body != nil { // no timeout: an upload takes as long as the link needs
		return r.sendOnce(ctx, q, target)
	}
	ctx, w := retry.Watch(ctx, r.responseTimeout)
	resp, err := r.sendOnce(ctx, q, target)
	if err != nil {
		w.Stop()
		return nil, w.Cause(err)
	}
	resp.Body = w.Body(resp.Body, r.stallTimeout)
	return resp, nil
}

func (r *Registry) sendOnce(ctx context.Context, q request, target *url.URL) (*http.Response, error) {
	ctx = auth.AppendScopesForHost(ctx, target.Host, q.scope())
	req, err := http.NewRequestWithContext(ctx, q.method, target.String(), q.body)
	if err != nil {
		return nil, err
	}
	for name, values := range q.header {
		req.Header[name] = values
	}
	if q.body != nil {
		req.ContentLength = q.size
	}
	resp, err := r.client.Do(req)
	if err != nil {
		if own := (*LoginError)(nil); errors.As(err, &own) {
			return nil, own
		}
		return nil, loginError(retry.WithoutURL(err))
	}
	if resp.StatusCode < http.StatusMultipleChoices {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, responseError(resp, time.Now())
}

// drain reads the short rest of a response's body, so that its connection can be
// reused, and closes it.
func drain(body io.ReadCloser) {
	io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	body.Close()
}
