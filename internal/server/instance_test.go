package server

import (
	"testing"

	"ferry/internal/config"
)

func TestLoginServerIsReachableOrEmpty(t *testing.T) {
	for _, test := range []struct{ listen, external, local, want string }{
		{"10.0.0.7:5000", "", "http://10.0.0.7:5000", "http://10.0.0.7:5000"},
		{"ship1.example:0", "", "https://10.0.0.7:41234", "https://10.0.0.7:41234"},
		{":5000", "", "http://127.0.0.1:5000", ""},
		{"0.0.0.0:5000", "", "http://127.0.0.1:5000", ""},
		{"[::]:5000", "", "http://127.0.0.1:5000", ""},
		{":5000", "https://ship1.example", "http://127.0.0.1:5000", "https://ship1.example"},
	} {
		if got := loginServer(config.Config{Listen: test.listen, ExternalURL: test.external},
			test.local); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}
