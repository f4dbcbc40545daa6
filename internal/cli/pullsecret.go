package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"ferry/internal/api"
	"ferry/internal/config"
	"ferry/internal/kube"
)

func newPullSecretCommand(env *Env) *cobra.Command {
	return describe(verb(env, "pull-secret", "Make the secret with which a cluster's pods pull", `
		ferry client pull-secret --name regcred --namespace apps --endpoint http://10.1.1.1:80 \
		--token line1 --password-stdin --apply < line1.password
		ferry client pull-secret --name regcred --namespace apps --endpoint https://10.1.1.1 --token line1 \
		--password-file line1.password --mirror-of docker.io --to-file regcred.yaml
		ferry client pull-secret --name regcred --namespace apps --endpoint https://10.1.1.1 --token line1 \
		-r home --generate-password 2 --apply`,
		&pullSecret{}, "name", "endpoint"), `
Make the secret with which a cluster's pods pull images, of the type
kubernetes.io/dockerconfigjson. Its manifest is written to standard output, in
YAML, or is applied to the cluster with --apply. Pods name the secret in
imagePullSecrets.

A kubelet finds the login by the first part of the image's name, with the port.
The secret has the address of --endpoint with its port, and also without it if
the port is the default, and the names of --host.

With --apply, the cluster is the one that kubectl uses: that of the current
context in $KUBECONFIG or ~/.kube/config, or in a pod its own.`)
}

// A pullSecret is the options of ferry client pull-secret.
type pullSecret struct {
	target
	passwordSource
	name, namespace string
	endpoint        string
	hosts, mirrors  []string
	slot            string // of the token's password to generate, at target; "" is none
	apply           bool
	context         string
}

func (o *pullSecret) define(set *pflag.FlagSet) {
	textVar(set, &o.name, "name", "n", "NAME", "the secret's name")
	textVar(set, &o.namespace, "namespace", "", "NAMESPACE",
		"the namespace of the pods (default with --apply, that of the cluster's context)")
	textVar(set, &o.endpoint, "endpoint", "", "URL",
		"the registry's address as image names have it, such as http://10.1.1.1:80")
	namesVar(set, &o.hosts, "host", "", "NAME[:PORT]...", "further names of the registry in the names of images")
	namesVar(set, &o.mirrors, "mirror-of", "", "REGISTRY...",
		"registries that this one mirrors, such as docker.io: pods present the login for their images, too")
	o.passwordSource.define(set)
	textVar(set, &o.registry, "registry", "r", "REGISTRY",
		"with --generate-password, the registry that has the token: a name saved by ferry login, or an address")
	choiceVar(set, &o.slot, "generate-password", "", "",
		"instead of a given password, generate the token's first or second one, which replaces the old one",
		"1", "2")
	set.BoolVar(&o.apply, "apply", false, "create or change the secret in the cluster, instead of printing it")
	textVar(set, &o.context, "context", "", "CONTEXT", "the context of the kubeconfig file (default the current one)")
}

func (o *pullSecret) client(env *Env) (*client, error) {
	if o.slot == "" {
		return nil, nil
	}
	return o.target.client(env)
}

func (o *pullSecret) run(ctx context.Context, env *Env, c *client) error {
	keys, err := o.keys()
	if err != nil {
		return err
	}
	if err := o.checkNames(); err != nil {
		return err
	}
	cluster, err := o.cluster(ctx, env)
	if err != nil {
		return err
	}
	user, password, err := o.login(ctx, env, c)
	if err != nil {
		return err
	}
	secret, err := kube.PullSecret(o.namespace, o.name, user, password, keys)
	if err != nil {
		return err
	}
	if len(o.mirrors) > 0 {
		fmt.Fprintf(env.Stderr, "note: if the mirror does not answer, nodes present this password to %s itself; "+
			"use a token that can only read\n", strings.Join(o.mirrors, ", "))
	}
	if !o.apply {
		_, err := env.Stdout.Write(secret.YAML())
		return err
	}
	if err := cluster.Apply(ctx, secret); err != nil {
		return err
	}
	fmt.Fprintf(env.Stderr, "Applied the secret %s/%s, for images of %s\n",
		o.namespace, o.name, strings.Join(keys, ", "))
	return nil
}

// keys returns the registries of the login.
func (o *pullSecret) keys() ([]string, error) {
	endpoint, err := parseAddress(o.endpoint)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Concat(o.hosts, o.mirrors) {
		u, err := url.Parse("//" + name)
		if err != nil || u.Host != name || !config.IsName(u.Hostname()) {
			return nil, usagef("%q is not the name of a registry: want NAME or NAME:PORT", clip(name))
		}
	}
	keys := kube.RegistryKeys(endpoint)
	keys = append(keys, o.hosts...)
	for _, m := range o.mirrors {
		keys = append(keys, kube.MirrorKey(m))
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil
}

func (o *pullSecret) checkNames() error {
	if err := kube.CheckName(o.name); err != nil {
		return usageError{fmt.Errorf("--name: %w", err)}
	}
	if o.namespace != "" {
		if err := kube.CheckNamespace(o.namespace); err != nil {
			return usageError{fmt.Errorf("--namespace: %w", err)}
		}
	}
	if o.context != "" && !o.apply {
		return usagef("--context needs --apply")
	}
	return nil
}

// cluster returns a client of the cluster for --apply, and settles the namespace. A password is
// generated after that, so that none is lost because the cluster is not found.
func (o *pullSecret) cluster(ctx context.Context, env *Env) (*kube.Client, error) {
	if !o.apply {
		return nil, nil
	}
	c, err := kube.Open(kube.Options{Getenv: env.Getenv, Context: o.context, Stderr: env.Stderr})
	if err == nil && o.namespace == "" {
		o.namespace, err = c.Namespace(ctx)
	}
	return c, err
}

// login returns the token and its password: the given one, or a generated one.
func (o *pullSecret) login(ctx context.Context, env *Env, c *client) (user, password string, err error) {
	if o.slot == "" {
		return o.read(env)
	}
	if o.given() {
		return "", "", usagef("--generate-password excludes --password-stdin and --password-file")
	}
	if o.token == "" {
		return "", "", usagef("--generate-password needs --token")
	}
	slot := "password" + o.slot
	post := api.CredentialsPost{Passwords: []string{slot}}
	made, err := write[api.TokenCredentials](ctx, c, http.MethodPost, post, tokens.kind, o.token, "credentials")
	if err != nil {
		return "", "", err
	}
	return o.token, value(value(passwordOf(made.value, slot)).Value), nil
}

// A passwordSource is a user of a registry, which is usually a token, and the place of the password.
type passwordSource struct {
	token     string
	fromStdin bool
	file      string
}

func (s *passwordSource) define(set *pflag.FlagSet) {
	textVar(set, &s.token, "token", "", "NAME", "the token")
	textVar(set, &s.token, "username", "u", "USER", "the same as --token, for another registry")
	set.BoolVar(&s.fromStdin, "password-stdin", false, "read the password from standard input (default ask for it)")
	textVar(set, &s.file, "password-file", "", "FILE", "read the password from this file")
}

// given reports whether a flag names the place of the password.
func (s *passwordSource) given() bool { return s.fromStdin || s.file != "" }

// read returns the user and the password.
func (s *passwordSource) read(env *Env) (user, password string, err error) {
	switch {
	case s.token == "":
		return "", "", usagef("the following arguments are required: --token")
	case strings.ContainsFunc(s.token, func(r rune) bool { return r == ':' || unicode.IsControl(r) }):
		return "", "", usagef("%q is not the name of a token: a login has no colon in a name", clip(s.token))
	case s.fromStdin && s.file != "":
		return "", "", usagef("--password-stdin and --password-file exclude each other")
	case s.file != "":
		password, err = readPasswordFile(s.file)
	default:
		password, err = env.readPassword(s.fromStdin)
	}
	return s.token, password, err
}

// readPasswordFile reads a password from the first line of a file.
func readPasswordFile(path string) (string, error) {
	text, err := readFile(path, maxPassword)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return "", fmt.Errorf("there is no file %s", path)
		}
		return "", fmt.Errorf("read password: %w", err)
	}
	line, _, _ := strings.Cut(strings.TrimPrefix(string(text), "\ufeff"), "\n")
	if line = strings.TrimRight(line, "\r"); line == "" {
		return "", fmt.Errorf("%s has no password", path)
	}
	return line, nil
}
