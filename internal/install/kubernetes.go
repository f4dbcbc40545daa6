package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"ferry/internal/oci"
)

// Kubernetes plans a release of the chart connected-registry: its values, without a secret, and
// the Secrets that they name. The release and its Service have the name of the connected
// registry. Without an image in the options, nodes pull Ferry from the parent's repository
// "ferry", with the sync token.
func Kubernetes(o Options) (Plan, error) {
	if o.Namespace == "" {
		o.Namespace = "connected-registry"
	}
	if o.Chart == "" {
		o.Chart = "charts/connected-registry"
	}
	name := strings.ToLower(strings.ReplaceAll(o.Connection.Name, "_", "-"))
	if !label.MatchString(name) {
		return Plan{}, fmt.Errorf("a service cannot have the name %q: want at most 46 letters, digits and '-', "+
			"which is not the last", name)
	}
	image := o.Image
	if image == "" {
		image = o.Connection.Host() + "/ferry"
	}
	ref, err := oci.ParseReference(image)
	if err != nil {
		return Plan{}, fmt.Errorf("image %.80q: %w", image, err)
	}
	pull := ref.Host == o.Connection.Host()
	if pull && o.Connection.JoinToken != "" {
		return Plan{}, errors.New("with a join token, nodes cannot pull the image from the parent: " +
			"want an image of another registry (--image)")
	}

	var t strings.Builder
	fmt.Fprintf(&t, "# The connected registry %s. Written by ferry install k8s.\n", o.Connection.Name)
	fmt.Fprintf(&t, "connectionStringSecret:\n  name: %q\n", name+"-connection")
	fmt.Fprintf(&t, "image:\n  repository: %q\n", path.Join(ref.Host, ref.Repository))
	if ref.Tag != "" {
		fmt.Fprintf(&t, "  tag: %q\n", ref.Tag)
	}
	if ref.Digest != "" {
		fmt.Fprintf(&t, "  digest: %q\n", ref.Digest)
	}
	if pull {
		fmt.Fprintf(&t, "  pullSecrets: [%q]\n", name+"-pull")
	} else {
		t.WriteString("  useSyncToken: false\n") // the chart does not know that the image is not the parent's
	}
	if o.HTTP {
		t.WriteString("httpEnabled: true\n")
	}
	if o.ParentCA != "" {
		fmt.Fprintf(&t, "parentCA: |\n  %s\n", strings.ReplaceAll(strings.TrimSpace(o.ParentCA), "\n", "\n  "))
	}
	fmt.Fprintf(&t, "service:\n  name: %q\n", name)
	if o.ClusterIP != "" {
		fmt.Fprintf(&t, "  clusterIP: %q\n", o.ClusterIP)
	}
	if o.StorageClass+o.StorageSize != "" {
		t.WriteString("pvc:\n")
	}
	if o.StorageClass != "" {
		fmt.Fprintf(&t, "  storageClassName: %q\n", o.StorageClass)
	}
	if o.StorageSize != "" {
		fmt.Fprintf(&t, "  storageRequest: %q\n", o.StorageSize)
	}

	secrets := []secret{{Metadata: metadata{Name: name + "-connection"},
		StringData: map[string]string{"connection-string": o.Connection.Secret()}}}
	if pull {
		logins, err := json.Marshal(map[string]any{"auths": map[string]any{o.Connection.Host(): map[string]string{
			"username": o.Connection.Token, "password": o.Connection.Password}}})
		if err != nil {
			return Plan{}, err
		}
		secrets = append(secrets, secret{Metadata: metadata{Name: name + "-pull"},
			Type: "kubernetes.io/dockerconfigjson", StringData: map[string]string{".dockerconfigjson": string(logins)}})
	}
	list := secretList{APIVersion: "v1", Kind: "List"}
	for _, s := range secrets {
		s.APIVersion, s.Kind = "v1", "Secret"
		list.Items = append(list.Items, s)
	}
	text, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return Plan{}, err
	}

	kubectl := "kubectl --namespace " + o.Namespace
	secretsFile := o.path("secrets.json")
	return Plan{
		Files: []File{
			{Name: "values.yaml", Text: t.String()},
			{Name: "secrets.json", Text: string(text) + "\n", Secret: true},
		},
		Next: []string{
			"kubectl create namespace " + o.Namespace + " --dry-run=client -o yaml | kubectl apply -f -",
			kubectl + " apply -f " + secretsFile,
			"rm " + secretsFile,
			"helm upgrade --install --wait --namespace " + o.Namespace + " --values " + o.path("values.yaml") + " " +
				name + " " + o.Chart,
			kubectl + " get service " + name + " -o jsonpath='{.spec.clusterIP}'",
		},
	}, nil
}

// label is a name that the release, its Service and its Secrets can have.
var label = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,44}[a-z0-9])?$`)

// A secretList is Secrets, as `kubectl apply` reads them.
type secretList struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Items      []secret `json:"items"`
}

type secret struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   metadata          `json:"metadata"`
	Type       string            `json:"type,omitempty"`
	StringData map[string]string `json:"stringData"`
}

type metadata struct {
	Name string `json:"name"`
}
