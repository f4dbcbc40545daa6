package kube

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// An Object is an object that [Client.Apply] can write: a [Secret] or a [ConfigMap].
type Object interface {
	ref() (Ref, error)
}

// A Ref names an object in the API.
type Ref struct {
	Group     string // "" is the core group
	Resource  string // the plural, such as secrets
	Namespace string
	Name      string
}

// DaemonSet names a DaemonSet.
func DaemonSet(namespace, name string) Ref {
	return Ref{Group: "apps", Resource: "daemonsets", Namespace: namespace, Name: name}
}

// ParseName splits NAMESPACE/NAME.
func ParseName(text string) (namespace, name string, err error) {
	namespace, name, _ = strings.Cut(text, "/")
	if !label.MatchString(namespace) || !subdomain.MatchString(name) || len(name) > maxName {
		return "", "", fmt.Errorf("%.80q: want NAMESPACE/NAME, such as edge/ferry-ca", text)
	}
	return namespace, name, nil
}

// CheckName returns an error unless name can be the name of an object, such as a Secret.
func CheckName(name string) error {
	if subdomain.MatchString(name) && len(name) <= maxName {
		return nil
	}
	return fmt.Errorf("%.80q is not a name in Kubernetes: want lower-case letters, digits, dots and -", name)
}

// CheckNamespace returns an error unless name can be the name of a namespace.
func CheckNamespace(name string) error {
	if label.MatchString(name) {
		return nil
	}
	return fmt.Errorf("%.80q is not a namespace: want up to 63 lower-case letters, digits and -", name)
}

// maxName bounds the name of an object.
const maxName = 253

var (
	label     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	subdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func (r Ref) check() error {
	if err := CheckNamespace(r.Namespace); err != nil {
		return err
	}
	return CheckName(r.Name)
}

// String implements [fmt.Stringer], for messages.
func (r Ref) String() string {
	return strings.TrimSuffix(r.Resource, "s") + " " + r.Namespace + "/" + r.Name
}

func (r Ref) path() string {
	root := "/api/v1"
	if r.Group != "" {
		root = "/apis/" + r.Group + "/v1"
	}
	return root + "/namespaces/" + url.PathEscape(r.Namespace) + "/" + r.Resource + "/" + url.PathEscape(r.Name)
}

// A Meta is the beginning of every object.
type Meta struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
}

// Metadata names an object.
type Metadata struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	DeletionTimestamp string            `json:"deletionTimestamp,omitempty"` // set while it is being deleted
}

// A Secret is an object with secret data.
type Secret struct {
	Meta
	Type string            `json:"type,omitempty"`
	Data map[string][]byte `json:"data"`
}

// NewSecret returns a Secret of the given type. Namespace may be "" if it is not applied.
func NewSecret(namespace, name, kind string, data map[string][]byte) Secret {
	return Secret{newMeta("Secret", namespace, name), kind, data}
}

func (s Secret) ref() (Ref, error) {
	r := Ref{Resource: "secrets", Namespace: s.Metadata.Namespace, Name: s.Metadata.Name}
	return r, r.check()
}

// A ConfigMap is an object with data that anybody may see.
type ConfigMap struct {
	Meta
	Data map[string]string `json:"data"`
}

// NewConfigMap returns a ConfigMap.
func NewConfigMap(namespace, name string, data map[string]string) ConfigMap {
	return ConfigMap{newMeta("ConfigMap", namespace, name), data}
}

func (c ConfigMap) ref() (Ref, error) {
	r := Ref{Resource: "configmaps", Namespace: c.Metadata.Namespace, Name: c.Metadata.Name}
	return r, r.check()
}

func newMeta(kind, namespace, name string) Meta {
	return Meta{"v1", kind, Metadata{Name: name, Namespace: namespace}}
}
