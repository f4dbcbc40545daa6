package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// envHost is the variable with the API's address in a pod.
const envHost = "KUBERNETES_SERVICE_HOST"

// accountDir has the token, the authority and the namespace of a pod's service account.
const accountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// maxFile bounds a file with credentials or settings, in bytes.
const maxFile = 4 << 20

// ErrNotInCluster says that the process does not run in a pod with a service account.
var ErrNotInCluster = errors.New("not in a pod of a Kubernetes cluster")

// InCluster returns a client of the cluster in which the process runs, with the rights of its
// pod's service account.
func InCluster(getenv func(string) string) (*Client, error) {
	return inCluster(getenv, accountDir)
}

func inCluster(getenv func(string) string, dir string) (*Client, error) {
	host, port := getenv(envHost), cmp.Or(getenv("KUBERNETES_SERVICE_PORT"), "443")
	if host == "" {
		return nil, hinted{ErrNotInCluster, "the variable " + envHost + " is set in every pod"}
	}
	server := &url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}
	return &Client{where: "the pod's service account", connect: func(context.Context) (connection, error) {
		token, err := readFile(filepath.Join(dir, "token"))
		if err != nil {
			return connection{}, hinted{fmt.Errorf("read the service account's token: %w", err),
				"the pod needs automountServiceAccountToken: true"}
		}
		authority, err := readFile(filepath.Join(dir, "ca.crt"))
		if err != nil {
			return connection{}, fmt.Errorf("read the authority of the Kubernetes API: %w", err)
		}
		roots, err := parseRoots(authority)
		if err != nil {
			return connection{}, err
		}
		namespace, _ := readFile(filepath.Join(dir, "namespace"))
		return connection{
			server: server, token: strings.TrimSpace(string(token)), namespace: strings.TrimSpace(string(namespace)),
			tls: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		}, nil
	}}, nil
}

func parseRoots(pem []byte) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, errors.New("the authority of the Kubernetes API is not a PEM certificate")
	}
	return roots, nil
}

// readFile reads a file of at most maxFile bytes.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than 4 MiB", path)
	}
	return text, err
}
