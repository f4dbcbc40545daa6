package cli

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/spf13/pflag"
)

// mirrorFlags are the settings of a mirror rule that can be changed.
type mirrorFlags struct {
	set    *pflag.FlagSet
	lists  listFlags
	source *sourceFlags
}

func defineMirrorFlags(env *Env, set *pflag.FlagSet) *mirrorFlags {
	f := &mirrorFlags{set: set, lists: listFlags{}}
	textVar(set, new(string), "source", "", "HOST/REPOSITORY", "the repository to follow, as docker.io/library/alpine; http:// before it is without TLS")
	textVar(set, new(string), "schedule", "s", "CRON", "when it runs: cron with five fields, in UTC (default \"0 * * * *\", once an hour)")
	textVar(set, new(string), "window", "w", "DURATION", "for how long a run may last: ISO 8601, PT1H to P7D (default as long as it takes); \"\" is as long as it takes")
	f.lists["tagFilters"] = listVar(set, "tag-filter", "FILTER...", "only tags that one of these matches: "+filterForms)
	f.lists["platforms"] = listVar(set, "platform", "PLATFORM...", platformsUsage)
	f.source = defineSourceFlags(env, set)
	return f
}

// changes returns the settings that were given, as the management API names them.
func (f *mirrorFlags) changes() (map[string]any, error) {
	body, err := f.source.changes()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"source", "schedule", "window"} {
		if f.set.Changed(name) {
			body[name] = f.set.Lookup(name).Value.String()
		}
	}
	maps.Copy(body, f.lists.changes())
	return body, nil
}

// sourceFlags say how another registry lets one in.
type sourceFlags struct {
	env   *Env
	set   *pflag.FlagSet
	stdin bool
}

func defineSourceFlags(env *Env, set *pflag.FlagSet) *sourceFlags {
	f := &sourceFlags{env: env, set: set}
	textVar(set, new(string), "username", "u", "USER", "user at the source (default what docker login keeps at the registry)")
	textVar(set, new(string), "password", "p", "PASSWORD", "its password, which others on this machine can see in a list of processes; better is --password-stdin")
	set.BoolVar(&f.stdin, "password-stdin", false, "read the password from standard input")
	textVar(set, new(string), "ca-file", "", "FILE", "certificates, PEM, of an authority that the source's is from, beside those that the registry's machine trusts; \"\" is none")
	return f
}

// maxCertificates bounds the file of --ca-file, in bytes.
const maxCertificates = 256 << 10

func (f *sourceFlags) changes() (map[string]any, error) {
	body := map[string]any{}
	for _, name := range []string{"username", "password"} {
		if f.set.Changed(name) {
			body[name] = f.set.Lookup(name).Value.String()
		}
	}
	if f.stdin {
		if f.set.Changed("password") {
			return nil, usagef("--password and --password-stdin exclude each other")
		}
		password, err := f.env.readPassword(true)
		if err != nil {
			return nil, err
		}
		body["password"] = password
	}
	if f.set.Changed("ca-file") {
		text, err := readCertificates(f.set.Lookup("ca-file").Value.String())
		if err != nil {
			return nil, err
		}
		body["certificateAuthority"] = text
	}
	return body, nil
}

func readCertificates(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read certificates: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCertificates+1))
	if err == nil && len(text) > maxCertificates {
		err = errors.New("the file is too large")
	}
	if err != nil {
		return "", fmt.Errorf("read certificates: %w", err)
	}
	return string(text), nil
}
