package kube

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
)

// A Publisher writes a file's content, such as an authority, into one key of a ConfigMap.
type Publisher struct {
	client               *Client
	namespace, name, key string
}

// NewPublisher returns a publisher to the ConfigMap target, NAMESPACE/NAME, in the cluster in which
// the process runs.
func NewPublisher(getenv func(string) string, target, key string) (*Publisher, error) {
	namespace, name, err := ParseName(target)
	if err != nil {
		return nil, err
	}
	c, err := InCluster(getenv)
	if err != nil {
		return nil, err
	}
	return &Publisher{c, namespace, name, key}, nil
}

// Publish writes text. It needs the right to patch the ConfigMap, and to create it if it does not
// exist. Writing the same text again changes nothing.
func (p *Publisher) Publish(ctx context.Context, text []byte) error {
	return p.client.Apply(ctx, NewConfigMap(p.namespace, p.name, map[string]string{p.key: string(text)}))
}

// A LoginPublisher writes the login for a registry into pull secrets.
type LoginPublisher struct {
	client  *Client
	secrets []Ref
}

// NewLoginPublisher returns a publisher to the pull secrets targets, a list of NAMESPACE/NAME with commas, in
// the cluster in which the process runs.
func NewLoginPublisher(getenv func(string) string, targets string) (*LoginPublisher, error) {
	p := &LoginPublisher{}
	for target := range strings.SplitSeq(targets, ",") {
		namespace, name, err := ParseName(strings.TrimSpace(target))
		if err != nil {
			return nil, err
		}
		p.secrets = append(p.secrets, Ref{Resource: "secrets", Namespace: namespace, Name: name})
	}
	var err error
	p.client, err = InCluster(getenv)
	return p, err
}

// PublishLogin writes the login for the registries into each pull secret. It needs the right to create and to
// patch these Secrets. Writing the same login again changes nothing. A Secret that cannot be written does not
// keep the others from being written.
func (p *LoginPublisher) PublishLogin(ctx context.Context, user, password string, registries []*url.URL) error {
	var keys []string
	for _, r := range registries {
		keys = append(keys, RegistryKeys(r)...)
	}
	slices.Sort(keys)
	var failed []error
	for _, s := range p.secrets {
		object, err := PullSecret(s.Namespace, s.Name, user, password, slices.Compact(keys))
		if err == nil {
			err = p.client.Apply(ctx, object)
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}
