package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/pflag"

	"ferry/internal/api"
)

// mirrorSettings are the settings of a mirror rule that can be changed.
type mirrorSettings struct {
	sourceLogin
	patch api.MirrorRulePatch
}

func (m *mirrorSettings) define(set *pflag.FlagSet) {
	textOption(set, &m.patch.Source, "source", "", "HOST/REPOSITORY", "the repository to follow, as docker.io/library/alpine; http:// before it is without TLS")
	textOption(set, &m.patch.Schedule, "schedule", "s", "CRON", "when it runs: cron with five fields, in UTC (default \"0 * * * *\", once an hour)")
	textOption(set, &m.patch.Window, "window", "w", "DURATION", "for how long a run may last: ISO 8601, PT1H to P7D (default as long as it takes); \"\" is as long as it takes")
	listOption(set, &m.patch.TagFilters, "tag-filter", "FILTER...", "only tags that one of these matches: "+filterForms)
	listOption(set, &m.patch.Platforms, "platform", "PLATFORM...", platformsUsage)
	m.sourceLogin.define(set)
}

// changes returns the settings that were given.
func (m *mirrorSettings) changes(env *Env) (api.MirrorRulePatch, error) {
	p := m.patch
	var err error
	p.Username = m.username
	p.Password, p.CertificateAuthority, err = m.secrets(env)
	return p, err
}

// A sourceLogin says how another registry lets one in.
type sourceLogin struct {
	username, password, caFile *string
	stdin                      bool // read the password there
}

func (l *sourceLogin) define(set *pflag.FlagSet) {
	textOption(set, &l.username, "username", "u", "USER", "user at the source (default what docker login keeps at the registry)")
	textOption(set, &l.password, "password", "p", "PASSWORD", "its password, which others on this machine can see in a list of processes; better is --password-stdin")
	set.BoolVar(&l.stdin, "password-stdin", false, "read the password from standard input")
	textOption(set, &l.caFile, "ca-file", "", "FILE", "certificates, PEM, of an authority that the source's is from, beside those that the registry's machine trusts; \"\" is none")
}

// maxCertificates bounds the file of --ca-file, in bytes.
const maxCertificates = 256 << 10

// secrets returns the password and the certificates, each nil where it was not
// given.
func (l *sourceLogin) secrets(env *Env) (password, certificates *string, err error) {
	password = l.password
	if l.stdin {
		if password != nil {
			return nil, nil, usagef("--password and --password-stdin exclude each other")
		}
		text, err := env.readPassword(true)
		if err != nil {
			return nil, nil, err
		}
		password = &text
	}
	if l.caFile != nil {
		text, err := readCertificates(*l.caFile)
		if err != nil {
			return nil, nil, err
		}
		certificates = &text
	}
	return password, certificates, nil
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
