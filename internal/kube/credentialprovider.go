package kube

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// providerVersion is the version of the kubelet's protocol for credential providers.
const providerVersion = "credentialprovider.kubelet.k8s.io/v1"

// maxRequest bounds a kubelet's request, in bytes.
const maxRequest = 1 << 20

// A Credential is a login for the images that match a pattern: host[:port][/path], in which parts
// of the host may have wildcards, as in *.example.com. The port must be equal, and the path is a
// prefix of the image's.
type Credential struct {
	Match    string
	Username string
	Password string
}

// A Provider answers a kubelet's requests for credentials.
type Provider struct {
	Credentials []Credential
	Cache       time.Duration // how long the kubelet may keep an answer
}

type providerRequest struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Image      string `json:"image"`
}

type providerResponse struct {
	APIVersion    string                   `json:"apiVersion"`
	Kind          string                   `json:"kind"`
	CacheKeyType  string                   `json:"cacheKeyType"`
	CacheDuration string                   `json:"cacheDuration"`
	Auth          map[string]providerLogin `json:"auth,omitempty"`
}

type providerLogin struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// Answer reads a CredentialProviderRequest and writes the response. It has the credentials that
// match the image, and no others. No error has a part of a password.
func (p Provider) Answer(in io.Reader, out io.Writer) error {
	text, err := io.ReadAll(io.LimitReader(in, maxRequest+1))
	if err == nil && len(text) > maxRequest {
		err = errors.New("it is larger than 1 MiB")
	}
	if err != nil {
		return fmt.Errorf("read the kubelet's request: %w", err)
	}
	var r providerRequest
	// The request may have a token, so the decoder's error is not passed on.
	if json.Unmarshal(text, &r) != nil || r.Kind != "CredentialProviderRequest" {
		return hinted{errors.New("standard input has no CredentialProviderRequest"),
			"a kubelet runs this command; ferry credential-provider --print-config says how"}
	}
	if r.APIVersion != providerVersion {
		return fmt.Errorf("the kubelet asks in version %.80q: want %s", r.APIVersion, providerVersion)
	}
	image, err := parsePattern(r.Image)
	if err != nil {
		return fmt.Errorf("the kubelet asks for the image %.80q: %w", r.Image, err)
	}
	answer := providerResponse{APIVersion: r.APIVersion, Kind: "CredentialProviderResponse",
		CacheKeyType: "Registry", CacheDuration: p.Cache.String(), Auth: map[string]providerLogin{}}
	for _, c := range p.Credentials {
		pattern, err := parsePattern(c.Match)
		if err != nil {
			return err
		}
		if pattern.path != "" {
			answer.CacheKeyType = "Image" // images of one registry have different credentials
		}
		if pattern.matches(image) {
			answer.Auth[c.Match] = providerLogin{c.Username, c.Password}
		}
	}
	return json.NewEncoder(out).Encode(answer)
}

// Config returns the CredentialProviderConfig for a kubelet, in YAML. program is the name of the
// program in the kubelet's directory of providers.
func (p Provider) Config(program string, args []string) ([]byte, error) {
	type provider struct {
		Name     string   `yaml:"name"`
		Version  string   `yaml:"apiVersion"`
		Match    []string `yaml:"matchImages"`
		Duration string   `yaml:"defaultCacheDuration"`
		Args     []string `yaml:"args"`
	}
	own := provider{program, providerVersion, nil, p.Cache.String(), args}
	for _, c := range p.Credentials {
		if !slices.Contains(own.Match, c.Match) {
			own.Match = append(own.Match, c.Match)
		}
	}
	return yaml.Dump(struct {
		Version   string     `yaml:"apiVersion"`
		Kind      string     `yaml:"kind"`
		Providers []provider `yaml:"providers"`
	}{"kubelet.config.k8s.io/v1", "CredentialProviderConfig", []provider{own}})
}

// CheckPattern returns an error unless text is a pattern for [Credential.Match].
func CheckPattern(text string) error {
	_, err := parsePattern(text)
	return err
}

// A pattern is the parts of a pattern, or of an image.
type pattern struct {
	host []string // its parts
	port string   // "" is no port
	path string
}

func parsePattern(text string) (pattern, error) {
	u, err := url.Parse("https://" + text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" ||
		strings.Contains(text, "://") {
		return pattern{}, fmt.Errorf("%.80q is not a registry: want host[:port][/path], without https://", text)
	}
	p := pattern{strings.Split(u.Hostname(), "."), u.Port(), strings.TrimSuffix(u.Path, "/")}
	for _, part := range p.host {
		if _, err := path.Match(part, ""); err != nil {
			return pattern{}, fmt.Errorf("%.80q has a bad wildcard", text)
		}
	}
	return p, nil
}

// matches compares like the kubelet does.
func (p pattern) matches(image pattern) bool {
	if p.port != image.port || len(p.host) != len(image.host) || !strings.HasPrefix(image.path, p.path) {
		return false
	}
	for i, part := range p.host {
		if ok, err := path.Match(part, image.host[i]); err != nil || !ok {
			return false
		}
	}
	return true
}
