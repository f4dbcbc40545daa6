package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// The variables of the reference, so that a deployment of it needs only another image.
const (
	refConnection   = "ACR_REGISTRY_CONNECTION_STRING"
	refLoginServer  = "ACR_REGISTRY_LOGIN_SERVER"
	refCertificates = "ACR_REGISTRY_CERTIFICATE_VOLUME"
	refData         = "ACR_REGISTRY_DATA_VOLUME"
	refEndpoint     = "ACR_PARENT_GATEWAY_ENDPOINT"

	// Until 2021, these and refEndpoint stood for the connection string.
	refName     = "ACR_REGISTRY_NAME"
	refToken    = "ACR_SYNC_TOKEN_NAME"
	refPassword = "ACR_SYNC_TOKEN_PASSWORD"
	refProtocol = "ACR_PARENT_PROTOCOL"
)

// The reference's defaults.
const (
	refDefaultData         = "/var/acr/data"
	refDefaultCertificates = "/var/acr/certs"
	refListen              = "0.0.0.0:8080"
)

// referenceLayer returns the settings in the variables of the reference. It is empty unless
// they make a connected registry. It leaves out settings that others in own replace.
func referenceLayer(lookup func(string) (string, bool), own layer) (layer, error) {
	getenv := func(name string) string {
		v, _ := lookup(name)
		return v
	}
	vars := func(name string) string {
		if v := strings.TrimSpace(getenv(name)); !isPlaceholder(v) {
			return v
		}
		return ""
	}
	l := layer{}
	_, direct := own["connection-string"]
	_, file := own["connection-string-file"]
	if v, ok := lookup(refConnection); ok && strings.TrimSpace(v) == "" && !direct && !file {
		return nil, emptyError(refConnection)
	}
	connection, err := referenceConnection(getenv)
	if err != nil || connection.text == "" {
		return l, err
	}
	if !direct && !file {
		l["connection-string"] = connection
		endpoint, err := resolveVariable(getenv, vars(refEndpoint))
		if err != nil {
			return nil, err
		}
		if endpoint != "" {
			l["parent-endpoint"] = given{endpoint, refEndpoint}
		}
	}
	l["data-dir"] = given{refDefaultData, "the default of " + refData}
	if v := vars(refData); v != "" {
		l["data-dir"] = given{v, refData}
	}
	l["listen"] = given{refListen, "the default of the reference"}

	_, mode := own["tls"]
	_, cert := own["tls-cert"]
	if !mode && !cert {
		if err := referenceCertificate(vars(refCertificates), l); err != nil {
			return nil, err
		}
	}
	if server := vars(refLoginServer); server != "" {
		u := "http://" + server
		if _, ok := l["tls-cert"]; ok || cert || own["tls"].text != "" && own["tls"].text != TLSOff {
			u = "https://" + server
		}
		if checkExternalURL(u) != nil {
			return nil, fmt.Errorf("%s %.80q: want HOST, or HOST:PORT", refLoginServer, server)
		}
		l["external-url"] = given{u, refLoginServer}
	}
	return l, nil
}

// variables returns the names of the variables that gave settings which are not in own.
func (l layer) variables(own layer) string {
	var names []string
	for name, g := range l {
		if _, ok := own[name]; !ok && strings.HasPrefix(g.where, "ACR_") {
			names = append(names, g.where)
		}
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// isPlaceholder reports whether a value is one that the reference's get-settings prints for
// people to replace.
func isPlaceholder(v string) bool { return strings.HasPrefix(v, "<") && strings.Contains(v, ">") }

// referenceConnection returns the connection string, or makes one of the variables of earlier
// versions. No error has a value.
func referenceConnection(getenv func(string) string) (given, error) {
	if v := getenv(refConnection); v != "" {
		return given{v, refConnection}, nil
	}
	if getenv(refToken) == "" && getenv(refPassword) == "" {
		return given{}, nil
	}
	var fields []string
	for _, f := range []struct{ key, name string }{
		{"ConnectedRegistryName", refName}, {"SyncTokenName", refToken}, {"SyncTokenPassword", refPassword},
		{"ParentGatewayEndpoint", refEndpoint}, {"ParentEndpointProtocol", refProtocol},
	} {
		v := strings.TrimSpace(getenv(f.name))
		if v == "" {
			return given{}, fmt.Errorf("%s is missing: without %s, all of %s are needed", f.name, refConnection,
				strings.Join([]string{refName, refToken, refPassword, refEndpoint, refProtocol}, ", "))
		}
		if strings.ContainsAny(v, ";\r\n") {
			return given{}, fmt.Errorf("%s contains a semicolon or a line end", f.name)
		}
		fields = append(fields, f.key+"="+v)
	}
	where := strings.Join([]string{refName, refToken, refPassword, refProtocol}, ",")
	return given{strings.Join(fields, ";"), where}, nil
}

// variableName matches a value that may be the name of another variable.
var variableName = regexp.MustCompile(`^(\$?[A-Za-z_][A-Za-z0-9_]*|\$\{[A-Za-z_][A-Za-z0-9_]*\})$`)

// resolveVariable returns the value of the variable that value names, such as
// $IOTEDGE_PARENTHOSTNAME, or value itself.
func resolveVariable(getenv func(string) string, value string) (string, error) {
	if !variableName.MatchString(value) {
		return value, nil
	}
	if v := strings.TrimSpace(getenv(strings.Trim(value, "${}"))); v != "" {
		return v, nil
	}
	if strings.HasPrefix(value, "$") {
		return "", fmt.Errorf("%s is %.80s, and that variable is not set", refEndpoint, value)
	}
	return value, nil // a host without dots
}

// referenceCertificate adds the certificate in a directory to l, if there is one. Volumes have
// the names of a Kubernetes secret.
func referenceCertificate(dir string, l layer) error {
	where := refCertificates
	if dir == "" {
		dir, where = refDefaultCertificates, "the default of "+refCertificates
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil // it serves without TLS, as the reference does
	}
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	for name, file := range map[string]string{"tls-cert": "tls.crt", "tls-key": "tls.key"} {
		path := filepath.Join(dir, file)
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%s: want tls.crt and tls.key in %s, or nothing: %w", where, dir, err)
		}
		l[name] = given{path, where}
	}
	return nil
}
