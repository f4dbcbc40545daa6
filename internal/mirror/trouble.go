package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"ferry/internal/oci"
	"ferry/internal/remote"
	"ferry/internal/retry"
)

// unusable reports whether the source cannot even be asked in the way, or with
// the login, that was decided here.
func unusable(err error) bool {
	return speaksNoTLS(err) || errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(*remote.LoginError))
}

func speaksNoTLS(err error) bool {
	return errors.Is(err, http.ErrSchemeMismatch) || errors.As(err, new(tls.RecordHeaderError))
}

// An unreachableError says that a source was asked often enough, and may
// answer another time.
type unreachableError struct{ error }

// Unwrap returns the last answer.
func (e unreachableError) Unwrap() error { return e.error }

// advice says what a person can do about err; "" is nothing.
func advice(err error) string {
	switch {
	case errors.Is(err, ErrExists):
		return "--force moves it"
	case errors.Is(err, ErrStopped) || errors.As(err, &unreachableError{}):
		return "run the same import again: it goes on from the same byte"
	case speaksNoTLS(err):
		return "the source speaks no TLS: put http:// before it"
	case errors.As(err, new(x509.UnknownAuthorityError)):
		return "trust the authority that its certificate is from: --ca-file FILE"
	case errors.As(err, new(*remote.LoginError)):
		return "install that helper where the registry runs, or give --username and --password-stdin"
	}
	if e := oci.AsError(err); e != nil && (e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden) {
		return "give --username and --password-stdin, or docker login as the user that the registry runs as; many registries say this of what they do not have, too"
	}
	return ""
}

// advised puts err and what to do about it into one line.
func advised(err error) string {
	text := err.Error()
	if what := advice(err); what != "" {
		text += "; " + what
	}
	return text
}

// waiting puts into words why a source is asked again, and when, where that is
// known; "" where nothing is wrong. There is a line's room beside a bar, so
// what was asked for stays out.
func waiting(until time.Time, err error) string {
	if err == nil {
		return ""
	}
	text := err.Error()
	if answer := oci.AsError(err); answer != nil {
		text = answer.Error()
	} else if link := (*net.OpError)(nil); errors.As(err, &link) {
		text = link.Error()
	}
	if !until.IsZero() {
		text = "held off until " + until.UTC().Format("15:04:05 UTC") + ": " + text
	}
	return text
}

// heldUntil is the end of the time for which the source wants to be left alone
// after err; zero where it did not say.
func heldUntil(err error, now time.Time) (until time.Time) {
	if pause := retry.After(err); pause > 0 {
		until = now.Add(pause)
	}
	return until
}

// An absence says in words, with the registry's name, what a source does not have.
type absence struct {
	text  string
	cause *oci.Error
}

func (e absence) Error() string { return e.text }

// Unwrap returns the error as registries know it.
func (e absence) Unwrap() error { return e.cause }

// noRepository says that the source's registry has no such repository.
func (s *source) noRepository() error {
	return absence{fmt.Sprintf("%s has no repository %s", s.host(), s.repository), oci.ErrNameUnknown}
}

// no says that the source has no such tag or digest, or not even the repository.
func (s *source) no(ctx context.Context, reference string) error {
	if has, err := s.registry.HasRepository(ctx, s.repository); err == nil && !has {
		return s.noRepository()
	}
	return absence{fmt.Sprintf("%s/%s has no %s", s.host(), s.repository, reference), oci.ErrManifestUnknown}
}

// host is the name that people know the source's registry by.
func (s *source) host() string {
	if host := s.registry.Host(); host != dockerHub {
		return host
	}
	return "docker.io"
}
