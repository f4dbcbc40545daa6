package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v4"

	"ferry/internal/kube"
)

func newCredentialProviderCommand(env *Env) *cobra.Command {
	return describe(verb(env, "credential-provider", "Give a kubelet the credentials for images", `
		ferry credential-provider --credentials /etc/ferry/credentials.yaml < request.json
		ferry credential-provider --credentials /etc/ferry/credentials.yaml --print-config
		ferry credential-provider --match 10.1.1.1:80 --token line1 --password-file /etc/ferry/line1.password`,
		&credentialProvider{}), `
Give a kubelet the credentials for images, so that pods need no pull secrets. A
kubelet runs this command for images that match, with a
CredentialProviderRequest (v1) on standard input.

The file of --credentials is YAML, and only its owner may read it:

  - match: 10.1.1.1:80
    token: line1
    password: ferry_...
  - match: docker.io        # of a mirror
    token: line1
    password: ferry_...

A match is host[:port][/path]. It may have wildcards for parts of the host.
Credentials are given only for images that match.

--print-config prints the kubelet's configuration. Start the kubelet with
--image-credential-provider-config FILE and --image-credential-provider-bin-dir
with the directory of the ferry program; both take effect at its next start.`)
}

// A credentialProvider is the options of ferry credential-provider.
type credentialProvider struct {
	noClient
	file         string
	match        []string
	token        string
	passwordFile string
	cache        time.Duration
	printConfig  bool
}

func (o *credentialProvider) define(set *pflag.FlagSet) {
	textVar(set, &o.file, "credentials", "", "FILE",
		"file with the credentials (default $FERRY_CREDENTIALS_FILE)")
	namesVar(set, &o.match, "match", "", "HOST[:PORT][/PATH]...",
		"instead of --credentials, one token: the images for which to give it")
	textVar(set, &o.token, "token", "", "NAME", "its name (default $FERRY_USERNAME)")
	textVar(set, &o.passwordFile, "password-file", "", "FILE",
		"file with its password, which only its owner may read (default $FERRY_PASSWORD)")
	o.cache = 5 * time.Minute
	periodVar(set, &o.cache, "cache", "5m",
		"how long the kubelet keeps the credentials, such as 5m or 1h; 0 is not at all")
	set.BoolVar(&o.printConfig, "print-config", false, "print the kubelet's configuration for this command")
}

func (o *credentialProvider) run(_ context.Context, env *Env, _ *client) error {
	credentials, err := o.credentials(env)
	if err != nil {
		return err
	}
	p := kube.Provider{Credentials: credentials, Cache: o.cache}
	if o.printConfig {
		text, err := p.Config(programName(), o.args())
		if err == nil {
			_, err = env.Stdout.Write(text)
		}
		return err
	}
	if isTerminal(env.Stdin) {
		return withHint(usagef("a kubelet runs this command, with a request on standard input"),
			"ferry credential-provider --print-config prints its configuration")
	}
	return p.Answer(env.Stdin, env.Stdout)
}

// credentials returns the credentials of the file, or the one token.
func (o *credentialProvider) credentials(env *Env) ([]kube.Credential, error) {
	file := cmp.Or(o.file, env.Getenv("FERRY_CREDENTIALS_FILE"))
	if len(o.match) == 0 {
		if file == "" {
			return nil, withHint(usagef("exactly one must be provided: --credentials, or --match with --token"),
				"see ferry credential-provider --help")
		}
		return readCredentials(file)
	}
	if o.file != "" {
		return nil, usagef("--credentials and --match exclude each other")
	}
	user, password := cmp.Or(o.token, env.Getenv("FERRY_USERNAME")), env.Getenv("FERRY_PASSWORD")
	if o.passwordFile != "" {
		if err := checkPrivate(o.passwordFile); err != nil {
			return nil, err
		}
		var err error
		if password, err = readPasswordFile(o.passwordFile); err != nil {
			return nil, err
		}
	}
	if user == "" || password == "" {
		return nil, usagef("--match needs --token and --password-file")
	}
	var all []kube.Credential
	for _, m := range o.match {
		all = append(all, kube.Credential{Match: m, Username: user, Password: password})
	}
	return all, checkCredentials("--match", all)
}

// args returns the arguments with which a kubelet runs the command in the same way.
func (o *credentialProvider) args() []string {
	args := []string{"credential-provider"}
	add := func(name, value string) {
		if value != "" {
			args = append(args, "--"+name+"="+value)
		}
	}
	absolute := func(path string) string { // a kubelet runs in another directory
		if full, err := filepath.Abs(path); err == nil && path != "" {
			return full
		}
		return path
	}
	add("credentials", absolute(o.file))
	for _, m := range o.match {
		add("match", m)
	}
	add("token", o.token)
	add("password-file", absolute(o.passwordFile))
	add("cache", o.cache.String())
	return args
}

// programName returns the name of this program's file, by which a kubelet runs it.
func programName() string {
	path, err := os.Executable()
	if err != nil {
		return "ferry"
	}
	return filepath.Base(path)
}

// maxCredentials bounds the file of --credentials, in bytes.
const maxCredentials = 1 << 20

// readCredentials reads the file of --credentials. No error quotes it.
func readCredentials(path string) ([]kube.Credential, error) {
	if err := checkPrivate(path); err != nil {
		return nil, err
	}
	text, err := readFile(path, maxCredentials)
	if err != nil {
		return nil, fmt.Errorf("read credentials: %w", err)
	}
	var entries []struct {
		Match    string `yaml:"match"`
		Token    string `yaml:"token"`
		Password string `yaml:"password"`
	}
	if strings.TrimSpace(string(text)) != "" && yaml.Load(text, &entries, yaml.WithKnownFields()) != nil {
		return nil, withHint(fmt.Errorf("%s is not a list of credentials in YAML", path),
			"each entry has match, token and password; see ferry credential-provider --help")
	}
	var all []kube.Credential
	for _, e := range entries {
		if e.Token == "" || e.Password == "" {
			return nil, fmt.Errorf("%s: the entry for %q has no token or no password", path, clip(e.Match))
		}
		all = append(all, kube.Credential{Match: e.Match, Username: e.Token, Password: e.Password})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no credentials", path)
	}
	return all, checkCredentials(path, all)
}

func checkCredentials(where string, all []kube.Credential) error {
	known := map[string]bool{}
	for _, c := range all {
		if err := kube.CheckPattern(c.Match); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
		if known[c.Match] {
			return fmt.Errorf("%s: %q is there twice", where, clip(c.Match))
		}
		known[c.Match] = true
	}
	return nil
}

// checkPrivate refuses a file with a password that others can read.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no file %s", path)
	}
	if err != nil {
		return err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return withHint(fmt.Errorf("%s has mode %04o: others can read the password", path, info.Mode().Perm()),
			"chmod 600 %s", quoted(path))
	}
	return nil
}
