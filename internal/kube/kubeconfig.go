package kube

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A configFile is the part of a kubeconfig file that is used here.
type configFile struct {
	CurrentContext string `yaml:"current-context"`
	Clusters       []struct {
		Name    string  `yaml:"name"`
		Cluster cluster `yaml:"cluster"`
	} `yaml:"clusters"`
	Contexts []struct {
		Name    string     `yaml:"name"`
		Context kubeTarget `yaml:"context"`
	} `yaml:"contexts"`
	Users []struct {
		Name string `yaml:"name"`
		User user   `yaml:"user"`
	} `yaml:"users"`
}

// A kubeTarget is a context: a cluster, a user of it, and a namespace.
type kubeTarget struct {
	Cluster   string `yaml:"cluster"`
	User      string `yaml:"user"`
	Namespace string `yaml:"namespace"`
}

type cluster struct {
	Server        string `yaml:"server"`
	Authority     string `yaml:"certificate-authority"`
	AuthorityData string `yaml:"certificate-authority-data"` // base64, like all data
	SkipVerify    bool   `yaml:"insecure-skip-tls-verify"`
	ServerName    string `yaml:"tls-server-name"`
	ProxyURL      string `yaml:"proxy-url"`

	dir string // of the file; paths are relative to it
}

type user struct {
	Token           string   `yaml:"token"`
	TokenFile       string   `yaml:"tokenFile"`
	Certificate     string   `yaml:"client-certificate"`
	CertificateData string   `yaml:"client-certificate-data"`
	Key             string   `yaml:"client-key"`
	KeyData         string   `yaml:"client-key-data"`
	Username        string   `yaml:"username"`
	Password        string   `yaml:"password"`
	Exec            *plugin  `yaml:"exec"`
	As              string   `yaml:"as"`
	AsGroups        []string `yaml:"as-groups"`
	Provider        any      `yaml:"auth-provider"`

	dir string
}

// A config is one or more kubeconfig files. The first file that has a name wins.
type config struct {
	current  string
	clusters map[string]cluster
	contexts map[string]kubeTarget
	users    map[string]user
}

// fromConfig returns a client of the cluster that a kubeconfig file names.
func fromConfig(o Options) (*Client, error) {
	list := o.Getenv("KUBECONFIG")
	paths := filepath.SplitList(list)
	if list == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, fmt.Errorf("find the home directory: %w", err)
		}
		paths = []string{filepath.Join(home, ".kube", "config")}
	}
	all, err := readConfigs(paths)
	if err != nil {
		return nil, err
	}
	where := "the kubeconfig file " + strings.Join(paths, ", ")
	name := cmp.Or(o.Context, all.current)
	target, ok := all.contexts[name]
	switch {
	case name == "":
		return nil, hinted{fmt.Errorf("%s has no current context", where), "name one with --context"}
	case !ok:
		return nil, hinted{fmt.Errorf("%s has no context %.80q", where, name), "kubectl config get-contexts lists them"}
	}
	place, ok := all.clusters[target.Cluster]
	if !ok {
		return nil, fmt.Errorf("%s has no cluster %.80q, which the context %s names", where, target.Cluster, name)
	}
	login, ok := all.users[target.User]
	if !ok && target.User != "" {
		return nil, fmt.Errorf("%s has no user %.80q, whom the context %s names", where, target.User, name)
	}
	return &Client{where: where, connect: func(ctx context.Context) (connection, error) {
		conn, err := place.connection()
		if err == nil {
			err = login.logIn(ctx, &conn, o.Stderr)
		}
		if err != nil {
			return conn, fmt.Errorf("use the context %s of %s: %w", name, where, err)
		}
		conn.namespace = target.Namespace
		return conn, nil
	}}, nil
}

// readConfigs merges kubeconfig files. Files that do not exist are skipped, if there is one that does.
func readConfigs(paths []string) (config, error) {
	all := config{clusters: map[string]cluster{}, contexts: map[string]kubeTarget{}, users: map[string]user{}}
	found := false
	for _, path := range paths {
		if path == "" {
			continue
		}
		text, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("read the kubeconfig file: %w", err)
		}
		found = true
		var f configFile
		// The parser's error may quote the file, which has credentials.
		if len(strings.TrimSpace(string(text))) > 0 && yaml.Load(text, &f) != nil {
			return all, fmt.Errorf("%s is not a kubeconfig file", path)
		}
		dir := filepath.Dir(path)
		all.current = cmp.Or(all.current, f.CurrentContext)
		for _, c := range f.Clusters {
			c.Cluster.dir = dir
			setOnce(all.clusters, c.Name, c.Cluster)
		}
		for _, c := range f.Contexts {
			setOnce(all.contexts, c.Name, c.Context)
		}
		for _, u := range f.Users {
			u.User.dir = dir
			setOnce(all.users, u.Name, u.User)
		}
	}
	if !found {
		return all, hinted{fmt.Errorf("there is no kubeconfig file %s", strings.Join(paths, ", ")),
			"set KUBECONFIG to the file with which kubectl reaches the cluster"}
	}
	return all, nil
}

func setOnce[T any](to map[string]T, name string, value T) {
	if _, ok := to[name]; !ok {
		to[name] = value
	}
}

// connection returns how to connect to the cluster, without a login.
func (c cluster) connection() (connection, error) {
	server, err := url.Parse(c.Server)
	if err != nil || (server.Scheme != "https" && server.Scheme != "http") || server.Host == "" {
		return connection{}, fmt.Errorf("the server %.80q is not an address such as https://10.0.0.1:6443", c.Server)
	}
	conn := connection{server: server, tls: &tls.Config{
		ServerName: c.ServerName, InsecureSkipVerify: c.SkipVerify, MinVersion: tls.VersionTLS12}}
	if c.ProxyURL != "" {
		if conn.proxy, err = url.Parse(c.ProxyURL); err != nil {
			return conn, errors.New("proxy-url is not a URL")
		}
	}
	authority, err := dataOrFile(c.AuthorityData, c.Authority, c.dir)
	if err == nil && authority != nil {
		conn.tls.RootCAs, err = parseRoots(authority)
	}
	return conn, err
}

// logIn adds the user's credentials to a connection.
func (u user) logIn(ctx context.Context, conn *connection, stderr io.Writer) error {
	switch {
	case u.Provider != nil:
		return hinted{errors.New("the user has an auth-provider, which Kubernetes removed in 1.26"),
			"use an exec plugin, or a token"}
	case u.As != "" || len(u.AsGroups) > 0:
		return hinted{errors.New("the user impersonates another one, which ferry does not support"),
			"kubectl apply -f - applies the manifest that ferry prints without --apply"}
	}
	certificate, err := dataOrFile(u.CertificateData, u.Certificate, u.dir)
	if err != nil {
		return err
	}
	key, err := dataOrFile(u.KeyData, u.Key, u.dir)
	if err != nil {
		return err
	}
	token := u.Token
	if u.TokenFile != "" {
		text, err := readFile(inDir(u.dir, u.TokenFile))
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if u.Exec != nil && token == "" && certificate == nil {
		made, err := u.Exec.run(ctx, u.dir, stderr)
		if err != nil {
			return err
		}
		token, certificate, key = made.Token, []byte(made.ClientCertificateData), []byte(made.ClientKeyData)
	}
	if len(certificate) > 0 || len(key) > 0 {
		pair, err := tls.X509KeyPair(certificate, key)
		if err != nil {
			return fmt.Errorf("the client certificate: %w", err)
		}
		conn.tls.Certificates = []tls.Certificate{pair}
	}
	conn.token, conn.user, conn.password = token, u.Username, u.Password
	if conn.server.Scheme == "http" && (conn.token != "" || conn.user != "") {
		return errors.New("the server's address begins with http://, and the credentials are not sent without TLS")
	}
	return nil
}

// dataOrFile decodes data, or reads the file; nil if both are empty.
func dataOrFile(data, path, dir string) ([]byte, error) {
	switch {
	case data != "":
		return decode(data)
	case path != "":
		return readFile(inDir(dir, path))
	}
	return nil, nil
}

// inDir returns path, which may be relative to dir.
func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
