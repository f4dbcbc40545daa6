package kube

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
)

// dockerHub is the key for docker.io in the login file of Docker. The kubelet and containerd's tools
// look for it, and not for docker.io.
const dockerHub = "https://index.docker.io/v1/"

// PullSecretType is the type of a Secret with logins for registries.
const PullSecretType = "kubernetes.io/dockerconfigjson"

// A login is one entry of Docker's login file.
type login struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Auth     string `json:"auth"`
}

// PullSecret returns a Secret of [PullSecretType] with one login for all the keys.
func PullSecret(namespace, name, user, password string, keys []string) (Secret, error) {
	entry := login{user, password, base64.StdEncoding.EncodeToString([]byte(user + ":" + password))}
	auths := map[string]login{}
	for _, k := range keys {
		auths[k] = entry
	}
	text, err := json.Marshal(map[string]any{"auths": auths})
	return NewSecret(namespace, name, PullSecretType, map[string][]byte{".dockerconfigjson": text}), err
}

// RegistryKeys returns the keys under which a kubelet finds the login for images of a registry. It
// compares ports as text, so the default port is there both with and without its number: the images
// 10.1.1.1/app and 10.1.1.1:80/app are of the same registry.
func RegistryKeys(endpoint *url.URL) []string {
	standard := map[string]string{"http": "80", "https": "443"}[endpoint.Scheme]
	host, port := endpoint.Hostname(), endpoint.Port()
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" && port != standard {
		return []string{host + ":" + port}
	}
	return []string{host, net.JoinHostPort(endpoint.Hostname(), standard)}
}

// MirrorKey returns the key under which a kubelet finds the login for images of another registry.
func MirrorKey(registry string) string {
	switch registry {
	case "docker.io", "index.docker.io", "registry-1.docker.io":
		return dockerHub
	}
	return registry
}

// YAML returns the manifest of the Secret, with its data in base64.
func (s Secret) YAML() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "apiVersion: v1\nkind: Secret\nmetadata:\n  name: %q\n", s.Metadata.Name)
	if s.Metadata.Namespace != "" {
		fmt.Fprintf(&b, "  namespace: %q\n", s.Metadata.Namespace)
	}
	fmt.Fprintf(&b, "type: %s\ndata:\n", s.Type)
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		fmt.Fprintf(&b, "  %s: %s\n", k, base64.StdEncoding.EncodeToString(s.Data[k]))
	}
	return b.Bytes()
}
