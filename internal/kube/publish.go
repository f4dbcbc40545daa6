package kube

import "context"

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
