package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const refString = "ConnectedRegistryName=ship1;SyncTokenName=ship1;SyncTokenPassword=s3cr3t;" +
	"ParentGatewayEndpoint=root.example;ParentEndpointProtocol=https"

func TestVariablesOfTheReferenceMakeAConnectedRegistry(t *testing.T) {
	certs := t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		if err := os.WriteFile(filepath.Join(certs, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pair := func(c *Config) {
		c.TLSCert, c.TLSKey = filepath.Join(certs, "tls.crt"), filepath.Join(certs, "tls.key")
	}
	for name, test := range map[string]struct {
		env  map[string]string
		want func(c *Config)
	}{
		"connection string": {
			map[string]string{refConnection: refString},
			func(c *Config) { c.ReferenceVariables = refConnection },
		},
		"all": {
			map[string]string{refConnection: refString, refLoginServer: "192.168.0.100:8080", refData: "/data",
				refCertificates: certs, refEndpoint: "$IOTEDGE_PARENTHOSTNAME", "IOTEDGE_PARENTHOSTNAME": "above:8000"},
			func(c *Config) {
				pair(c)
				c.ExternalURL, c.DataDir, c.ParentEndpoint = "https://192.168.0.100:8080", "/data", "above:8000"
				c.ReferenceVariables = strings.Join([]string{refEndpoint, refCertificates, refConnection, refData,
					refLoginServer}, ",")
			},
		},
		"placeholders": {
			map[string]string{refConnection: refString, refLoginServer: "<Optional: connected registry login server>.",
				refData: "<myvolume>", refCertificates: "<myvolume>", refEndpoint: "10.0.0.1"},
			func(c *Config) { c.ParentEndpoint, c.ReferenceVariables = "10.0.0.1", refEndpoint+","+refConnection },
		},
		"name of a variable": {
			map[string]string{refConnection: refString, refEndpoint: "PARENT", "PARENT": "above"},
			func(c *Config) { c.ParentEndpoint, c.ReferenceVariables = "above", refEndpoint+","+refConnection },
		},
		"host that looks like a variable": {
			map[string]string{refConnection: refString, refEndpoint: "above"},
			func(c *Config) { c.ParentEndpoint, c.ReferenceVariables = "above", refEndpoint+","+refConnection },
		},
		"before 2021": {
			map[string]string{refName: "ship1", refToken: "ship1", refPassword: "s3cr3t", refEndpoint: "root.example",
				refProtocol: "https"},
			func(c *Config) {
				c.ParentEndpoint = "root.example"
				c.ReferenceVariables = strings.Join([]string{refEndpoint, refName, refToken, refPassword,
					refProtocol}, ",")
			},
		},
		"defaults of an image": {
			map[string]string{refConnection: refString, "FERRY_DEFAULT_LISTEN": ":5000",
				"FERRY_DEFAULT_DATA_DIR": "/lib"},
			func(c *Config) { c.ReferenceVariables = refConnection },
		},
		"Ferry's own take precedence": {
			map[string]string{refConnection: refString, refData: "/data", refCertificates: certs, refLoginServer: "a:1",
				refEndpoint: "b", "FERRY_CONNECTION_STRING": "c=d", "FERRY_DATA_DIR": "/own", "FERRY_LISTEN": ":5001",
				"FERRY_TLS": "own-ca"},
			func(c *Config) {
				c.ConnectionString, c.DataDir, c.Listen, c.TLS = "c=d", "/own", ":5001", TLSOwnCA
				c.ExternalURL, c.ReferenceVariables = "https://a:1", refLoginServer
			},
		},
	} {
		got, err := Load("", variables(test.env).lookup, nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := Default()
		want.ConnectionString, want.DataDir, want.Listen = refString, "/var/acr/data", "0.0.0.0:8080"
		test.want(&want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestVariablesForScriptsAloneChangeNothing(t *testing.T) {
	env := map[string]string{refLoginServer: "a.example", refData: "/data", refEndpoint: "$NONE", refName: "home"}
	got, err := Load("", variables(env).lookup, nil)
	if diff := cmp.Diff(Default(), got); err != nil || diff != "" {
		t.Errorf("%v: %s", err, diff)
	}
}

func TestBadVariablesOfTheReferenceAreNamed(t *testing.T) {
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "cert.pem"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := map[string]string{refName: "ship1", refToken: "ship1", refPassword: "s3;cr3t", refEndpoint: "root.example",
		refProtocol: "https"}
	for name, test := range map[string]struct {
		env  map[string]string
		want string
	}{
		"variable that is not set": {map[string]string{refConnection: refString, refEndpoint: "$NONE"},
			"ACR_PARENT_GATEWAY_ENDPOINT is $NONE, and that variable is not set"},
		"one of five": {map[string]string{refPassword: "s3cr3t"}, "ACR_REGISTRY_NAME is missing"},
		"semicolon":   {old, "ACR_SYNC_TOKEN_PASSWORD contains a semicolon"},
		"other certificates": {map[string]string{refConnection: refString, refCertificates: other},
			"ACR_REGISTRY_CERTIFICATE_VOLUME: want tls.crt and tls.key"},
		"empty":                          {map[string]string{refConnection: ""}, refConnection + " is empty"},
		"empty file":                     {map[string]string{"FERRY_CONNECTION_STRING_FILE": ""}, "FILE is empty"},
		"empty, beside a data directory": {map[string]string{refConnection: " ", refData: "/data"}, "is empty"},
		"login server with a scheme": {map[string]string{refConnection: refString, refLoginServer: "https://a"},
			"ACR_REGISTRY_LOGIN_SERVER"},
	} {
		_, err := Load("", variables(test.env).lookup, nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "cr3t") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultsOfAnImageGiveWay(t *testing.T) {
	env := map[string]string{"FERRY_DEFAULT_LISTEN": ":5000", "FERRY_DEFAULT_DATA_DIR": "/lib"}
	got, err := Load(write(t, "data-dir: /file\n"), variables(env).lookup, nil)
	if err != nil || got.Listen != ":5000" || got.DataDir != "/file" {
		t.Errorf("%+v, %v", got, err)
	}
}
