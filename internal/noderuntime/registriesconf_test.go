package noderuntime

import (
	"strings"
	"testing"
)

func TestLaterPolicyOfTheSameRegistryIsNamed(t *testing.T) {
	const dir = "-- etc/containers/registries.conf.d/"
	const policy = " --\n[[registry]]\nlocation = 'docker.io'\n"
	for name, file := range map[string]string{"earlier": "zz-a.conf", "later": "zzz.conf"} {
		n := newNode(t, dir+file+policy)
		s := &Settings{Endpoint: edge, Mirrors: []string{"docker.io"}}
		_, err := n.Configure(t.Context(), mustChoose(t, n, "podman", s), s)
		if name == "later" && (err == nil || !strings.Contains(err.Error(), "zzz.conf replaces what")) ||
			name == "earlier" && err != nil {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}
