// Package kube is a small client of the Kubernetes API: it applies one Secret or ConfigMap, and
// reads one object. It finds the API like kubectl does, from inside a cluster or from a
// kubeconfig file. Begin with [Open] and [Client].
package kube

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// manager is the owner of the fields that Apply sets.
	manager = "ferry"
	// timeout bounds one request, with its connection.
	timeout = 30 * time.Second
	// maxAnswer bounds an answer's body, in bytes. etcd stores objects of at most 1.5 MiB.
	maxAnswer = 4 << 20
)

// A Client is a client of one cluster's API. Each request reads the authorities and the credentials
// anew, because the cluster replaces them while a pod runs. Its methods return an [*Error] for an
// answer of the API that is not a success.
type Client struct {
	where   string // the place that named the cluster, for errors
	connect func(context.Context) (connection, error)
}

// A connection says where the API is, and how to log in there.
type connection struct {
	server    *url.URL
	proxy     *url.URL // nil is the proxy of the environment
	tls       *tls.Config
	token     string
	user      string
	password  string
	namespace string // "" is default
}

// Options say which cluster [Open] finds.
type Options struct {
	Getenv  func(string) string
	Context string    // of the kubeconfig file; "" is its current context
	Stderr  io.Writer // for the messages of the programs that the file names; nil is none
}

// Open returns a client of the cluster that the options name, without connecting to it. Without a
// context and without KUBECONFIG, a pod uses its own cluster. Else the files of KUBECONFIG or
// ~/.kube/config name the cluster.
func Open(o Options) (*Client, error) {
	if o.Context == "" && o.Getenv("KUBECONFIG") == "" && o.Getenv(envHost) != "" {
		return InCluster(o.Getenv)
	}
	return fromConfig(o)
}

// Namespace returns the namespace to use if the user names none.
func (c *Client) Namespace(ctx context.Context) (string, error) {
	conn, err := c.connect(ctx)
	if err != nil {
		return "", err
	}
	if conn.namespace == "" {
		return "default", nil
	}
	return conn.namespace, nil
}

// Apply creates the object, or changes it so that it has the given fields, also if another manager
// set them. Fields that it set before and that are not given now are removed.
func (c *Client) Apply(ctx context.Context, o Object) error {
	ref, err := o.ref()
	if err != nil {
		return err
	}
	body, err := json.Marshal(o)
	if err != nil {
		return err
	}
	query := url.Values{"fieldManager": {manager}, "force": {"true"}}
	err = c.do(ctx, http.MethodPatch, ref.path(), query, body, nil)
	if err != nil {
		return fmt.Errorf("apply %s: %w", ref, err)
	}
	return nil
}

// Get reads an object into to, a pointer.
func (c *Client) Get(ctx context.Context, ref Ref, to any) error {
	if err := ref.check(); err != nil {
		return err
	}
	if err := c.do(ctx, http.MethodGet, ref.path(), nil, nil, to); err != nil {
		return fmt.Errorf("get %s: %w", ref, err)
	}
	return nil
}

// do sends a request, and decodes a successful answer into to, if that is not nil.
func (c *Client) do(ctx context.Context, method, path string, query url.Values, body []byte, to any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		return err
	}
	target := conn.server.JoinPath(path)
	target.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", manager)
	if body != nil {
		req.Header.Set("Content-Type", "application/apply-patch+yaml") // JSON is YAML
	}
	switch {
	case conn.token != "":
		req.Header.Set("Authorization", "Bearer "+conn.token)
	case conn.user != "":
		req.SetBasicAuth(conn.user, conn.password)
	}
	transport := conn.transport()
	defer transport.CloseIdleConnections()
	// A redirect would send the credentials and the object to another server.
	noRedirects := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	answer, err := (&http.Client{Transport: transport, CheckRedirect: noRedirects}).Do(req)
	if err != nil {
		return unreachable(err, c.where)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = errors.New("the answer is larger than 4 MiB")
	}
	if err != nil {
		return fmt.Errorf("read the answer of %s: %w", conn.server.Host, err)
	}
	if answer.StatusCode < 200 || answer.StatusCode > 299 {
		return newError(answer.StatusCode, text, c.where)
	}
	if to == nil {
		return nil
	}
	if err := json.Unmarshal(text, to); err != nil {
		return fmt.Errorf("the answer of %s is not JSON: %w", conn.server.Host, err)
	}
	return nil
}

func (c connection) transport() *http.Transport {
	proxy := http.ProxyFromEnvironment
	if c.proxy != nil {
		proxy = http.ProxyURL(c.proxy)
	}
	return &http.Transport{
		Proxy:                  proxy,
		TLSClientConfig:        c.tls,
		TLSHandshakeTimeout:    10 * time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		DisableKeepAlives:      true,
	}
}
